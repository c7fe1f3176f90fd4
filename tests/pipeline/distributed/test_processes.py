"""Worker processes of this host: calls, errors, lost processes, and their end with the command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from threadpoolctl import threadpool_info

from pipeline.distributed.failures import WorkerLostError
from pipeline.distributed.processes import ProcessPool, start_fork_server, stop_fork_server
from tests.helpers.processes import wait_until

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module", autouse=True)
def fork_server() -> Iterator[None]:
    """Start the process from which workers are forked, without the threads that tests set, and end it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OMP_NUM_THREADS")
        patch.delenv("OPENBLAS_NUM_THREADS", raising=False)
        start_fork_server(["numpy", "psutil", "pytest"])
    yield
    stop_fork_server()


def process_id(_: object) -> int:
    time.sleep(0.1)
    return os.getpid()


def fail(text: str) -> None:
    raise ValueError(text)


def end_process(how: str) -> None:
    if how == "exit":
        os._exit(3)
    os.kill(os.getpid(), signal.SIGKILL)


def variable(name: str) -> str | None:
    return os.environ.get(name)


def blas_threads() -> set[int]:
    np.ones((2, 2)) @ np.ones((2, 2))
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


class UnpicklableError(Exception):
    def __reduce__(self) -> str:
        raise TypeError("not picklable")


def fail_unpicklably() -> None:
    raise UnpicklableError("text")


def sleep_and_write_id(path: str) -> None:
    Path(path).write_text(str(os.getpid()))
    time.sleep(1000)


def call(function: object, *arguments: object) -> object:
    """Return the value of a call in a worker process, or raise its error."""
    with ProcessPool(1) as pool:
        pool.submit("", function, *arguments)  # type: ignore[arg-type]
        (result,) = pool.results()
    if result.error is not None:
        raise result.error
    return result.value


def test_calls_run_in_as_many_processes_as_allowed() -> None:
    with ProcessPool(2) as pool:
        for key in range(6):
            pool.submit(key, process_id, key)
        results = list(pool.results())
    assert sorted(result.key for result in results) == list(range(6))
    processes = {result.value for result in results}
    assert len(processes) == 2 and os.getpid() not in processes
    assert not any(map(psutil.pid_exists, processes))


def test_error_has_the_traceback_of_the_worker() -> None:
    with pytest.raises(ValueError, match="the text") as info:
        call(fail, "the text")
    assert "in fail" in info.value.__notes__[0]
    with pytest.raises(RuntimeError, match="UnpicklableError: text"):
        call(fail_unpicklably)


@pytest.mark.parametrize(
    ("how", "text"), [("exit", "exit code 3"), ("kill", "killed by SIGKILL, perhaps for lack of memory")]
)
def test_lost_process_is_replaced_and_reported(how: str, text: str) -> None:
    with ProcessPool(1) as pool:
        for key, function, argument in ((0, end_process, how), (1, process_id, None)):
            pool.submit(key, function, argument)
        lost, other = pool.results()
    assert lost.key == 0 and isinstance(lost.error, WorkerLostError) and text in str(lost.error)
    assert other.value != os.getpid() and other.error is None


def test_worker_has_the_current_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(variable, "MELRAY_TEST") is None
    monkeypatch.setenv("MELRAY_TEST", "value")
    assert call(variable, "MELRAY_TEST") == "value"
    assert call(variable, "PYTHONSAFEPATH") == os.environ.get("PYTHONSAFEPATH")


def test_worker_has_threads_of_its_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    for threads in (1, 2):
        with ProcessPool(1, threads) as pool:
            pool.submit("", blas_threads)
            (result,) = pool.results()
        assert result.value == {threads}


def test_libraries_that_are_loaded_later_have_these_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert call(variable, "OMP_NUM_THREADS") == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert call(variable, "OMP_NUM_THREADS") == "2"


def test_call_that_does_not_end_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "id"
    with ProcessPool(1) as pool:
        pool.submit("", sleep_and_write_id, str(path))
        pool._assign()
        wait_until(lambda: path.is_file() and path.read_text())
    assert not psutil.pid_exists(int(path.read_text()))


def test_call_beyond_the_time_limit_is_lost() -> None:
    with ProcessPool(1, timeout_s=0.2) as pool:
        pool.submit("slow", time.sleep, 600)
        (result,) = pool.results()
    assert isinstance(result.error, WorkerLostError) and "took too long" in str(result.error)


# Without `if __name__ == "__main__"`, in a folder with a file that has the name of a library.
SCRIPT = """
from tests.pipeline.distributed.test_processes import ProcessPool, sleep_and_write_id
with ProcessPool(1) as pool:
    pool.submit("", sleep_and_write_id, PATH)
    list(pool.results())
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_worker_ends_with_the_command(tmp_path: Path, number: signal.Signals) -> None:
    path, script = tmp_path / "id", tmp_path / "script.py"
    (tmp_path / "numpy.py").write_text("raise RuntimeError('not the library')")
    script.write_text(SCRIPT.replace("PATH", repr(str(path))))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
    with subprocess.Popen(
        [sys.executable, script], cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL
    ) as command:
        wait_until(lambda: path.is_file() and path.read_text())
        command.send_signal(number)
    wait_until(lambda: not psutil.pid_exists(int(path.read_text())), 10)
