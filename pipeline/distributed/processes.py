"""Worker processes of this host, for work that is too small for Ray.

They are forked from a process that does nothing but import the libraries (the fork server of Python's
multiprocessing), while the command itself still imports: a worker then starts within milliseconds. Forking
the command itself would not be safe, since it has threads.

What runs inside of a worker is in `child_process.py`.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import types
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import connection as connections
from multiprocessing import forkserver
from typing import Any, NamedTuple, Self

from pipeline.distributed import worker_imports
from pipeline.distributed.child_process import THREADS_VARIABLE, serve
from pipeline.distributed.failures import WorkerLostError
from pipeline.io.console import logger

# Linux only: the libraries of macOS do not survive a fork, and Windows has none.
_METHOD = "forkserver" if sys.platform == "linux" else "spawn"
# Threads with a pool each: the start of a process changes the environment and the main module for a moment.
_starting = threading.RLock()


def start_fork_server(modules: Sequence[str] = ()) -> None:
    """Start the process from which workers are forked; it imports `modules` concurrently.

    Does nothing if it is already running, or on a system without.
    """
    if _METHOD != "forkserver":
        return
    if modules:
        multiprocessing.get_context(_METHOD).set_forkserver_preload([worker_imports.__name__])
    variables = {
        worker_imports.MODULES_VARIABLE: ",".join([*modules, "threadpoolctl"]),
        THREADS_VARIABLE: os.environ.get(THREADS_VARIABLE, "1"),  # no threads, which would not survive a fork
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PYTHONSAFEPATH": "1",  # not the current folder, in which a file may have the name of a library
    }
    with _starting, _environment(variables), _ignored_interrupts():
        forkserver.ensure_running()


def stop_fork_server() -> None:
    """End the process from which workers are forked, if it is running."""
    server: Any = forkserver._forkserver
    if server._forkserver_pid is not None:
        with suppress(ProcessLookupError):
            os.kill(server._forkserver_pid, signal.SIGKILL)
        server._stop()


class CallResult(NamedTuple):
    """Result of a call in a worker process."""

    key: Any
    value: Any = None
    error: Exception | None = None
    """Error that the function raised, or a `WorkerLostError`."""


class ProcessPool:
    """Worker processes that run one call at a time; a context manager that ends them.

    Workers are started as they are needed; one that is lost is replaced.
    """

    def __init__(self, workers: int, threads: int = 1, timeout_s: float | None = None):
        """Use at most `workers` processes with `threads` threads each.

        A process whose call takes longer than `timeout_s` is killed, and is then one that is lost.
        """
        self._max_workers, self._threads, self._timeout_s = workers, threads, timeout_s
        self._waiting: deque[tuple[Any, bytes]] = deque()
        self._idle: list[_Worker] = []
        self._busy: dict[Any, tuple[_Worker, Any]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in [*self._idle, *(worker for worker, _ in self._busy.values())]:
            worker.kill()

    def submit(self, key: Any, function: Callable[..., Any], *arguments: Any) -> None:
        """Have a call run as soon as a worker is free; function and arguments are pickled."""
        self._waiting.append((key, pickle.dumps((function, arguments))))

    def results(self) -> Iterator[CallResult]:
        """Yield results as they arrive, until there are no more calls; `submit` may be called meanwhile.

        Raises:
            RuntimeError: a worker process ends as soon as it is started.
        """
        self._assign()
        while self._busy:
            for ready in connections.wait(list(self._busy), self._end_overdue()):
                worker, key = self._busy[ready]
                if not worker.has_started:
                    worker.finish_start(self._timeout_s)
                    continue
                del self._busy[ready]
                result = worker.receive(key)
                if worker.is_overdue or isinstance(result.error, WorkerLostError):
                    worker.kill()
                else:
                    self._idle.append(worker)
                self._assign()
                yield result
            self._assign()

    def _assign(self) -> None:
        while self._waiting and len(self._busy) < self._max_workers:
            worker = self._idle.pop() if self._idle else _Worker(self._threads)
            key, call = self._waiting.popleft()
            self._busy[worker.connection] = worker, key
            worker.send(call, self._timeout_s)

    def _end_overdue(self) -> float | None:
        """Kill processes whose time is over; return the seconds that others have, None without limit."""
        if self._timeout_s is None:
            return None
        now, waits = time.monotonic(), [self._timeout_s]
        for worker, _ in self._busy.values():
            if worker.deadline > now:
                waits.append(worker.deadline - now)
            else:
                worker.end_overdue()
        return min(waits)


class _Worker:
    """A worker process as seen by the command."""

    def __init__(self, threads: int):
        self.has_started = False
        self.deadline = math.inf
        self.is_overdue = False
        start_fork_server()
        context: Any = multiprocessing.get_context(_METHOD)
        self.connection, worker_end = context.Pipe()
        with _starting, _no_main_module():
            # Not the fork server's environment: this process's may have changed since.
            arguments = worker_end, dict(os.environ), threads, logger.level
            self._process = context.Process(target=serve, args=arguments, daemon=True)
            self._process.start()
        worker_end.close()  # so that the end of the process closes the connection

    def finish_start(self, timeout_s: float | None) -> None:
        """Receive the message that the process has started.

        Raises:
            RuntimeError: it has ended instead, as its replacement would.
        """
        try:
            self.connection.recv()
        except (EOFError, OSError):
            raise RuntimeError(f"a worker process ended when it was started: {self._end()}") from None
        self.has_started = True
        self._set_deadline(timeout_s)

    def send(self, call: bytes, timeout_s: float | None) -> None:
        if self.has_started:  # else the time of the call begins with the end of the start
            self._set_deadline(timeout_s)
        with suppress(OSError):  # lost; `receive` notices it
            self.connection.send_bytes(call)

    def _set_deadline(self, timeout_s: float | None) -> None:
        self.deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s

    def end_overdue(self) -> None:
        """End the process, whose connection then has an end to receive."""
        self.is_overdue = True
        self._process.kill()

    def receive(self, key: Any) -> CallResult:
        try:
            value, error = pickle.loads(self.connection.recv_bytes())
        except (EOFError, OSError):
            return CallResult(key, error=WorkerLostError(f"a worker process has ended: {self._end()}"))
        return CallResult(key, value, error)

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self.connection.close()

    def _end(self) -> str:
        """Return how the process has ended, in a few words."""
        self._process.join()
        if self.is_overdue:
            return "its call took too long"
        code = self._process.exitcode or 0
        if code >= 0:
            return f"exit code {code}"
        reason = ", perhaps for lack of memory" if -code == signal.SIGKILL else ""
        return f"killed by {signal.Signals(-code).name}{reason}"


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables within the `with` block."""
    previous = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in previous.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _ignored_interrupts() -> Iterator[None]:
    """Ignore Ctrl-C within the `with` block, so that processes started in it do: the command ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


@contextmanager
def _no_main_module() -> Iterator[None]:
    """Hide the main module within the `with` block: workers would run it, such as a script of the user."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
