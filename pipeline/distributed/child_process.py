"""What a worker process of this host does: it runs the calls that its command sends, one at a time.

As with Ray, a worker has one thread per CPU of its own, low priority for memory, and no output on the
console except under `--log-level debug`. It ends with the command, however that ends.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from contextlib import suppress
from multiprocessing import connection as connections
from pathlib import Path
from typing import Any

# Number of threads of numerical libraries. Read when they are loaded; a value of the user is kept.
THREADS_VARIABLE = "OMP_NUM_THREADS"
# Linux kills the process with the highest value first when memory is short: a worker, not the command.
_OOM_SCORE = "500"


def serve(connection: Any, environment: dict[str, str], threads: int, log_level: int) -> None:
    """Run the calls that arrive, in a worker process, until the command closes the connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_command, daemon=True).start()
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE, encoding="ascii")
    os.environ.clear()
    os.environ.update(environment)
    _set_threads(threads)
    if log_level > 10:  # above debug
        _discard_output()
    connection.send(None)
    while True:
        try:
            call = connection.recv_bytes()
        except EOFError:
            return
        connection.send_bytes(_run(call))


def _run(call: bytes) -> bytes:
    """Run a pickled call; return the pickled value and error."""
    try:
        function, arguments = pickle.loads(call)
        return pickle.dumps((function(*arguments), None))
    except Exception as error:
        error.add_note("".join(traceback.format_exception(error)))
        try:
            return pickle.dumps((None, error))
        except Exception:
            return pickle.dumps((None, RuntimeError(f"{type(error).__name__}: {error}")))


def _exit_with_command() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    connections.wait([parent.sentinel])
    os._exit(1)


def _set_threads(threads: int) -> None:
    """Set the number of threads of numerical libraries, loaded or not, unless the user has chosen it."""
    from threadpoolctl import threadpool_limits

    if THREADS_VARIABLE not in os.environ:
        os.environ[THREADS_VARIABLE] = str(threads)
        threadpool_limits(threads)


def _discard_output() -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(null, descriptor)
    os.close(null)
