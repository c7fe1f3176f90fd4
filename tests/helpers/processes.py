"""Starting the command as a user does, and killing what a fault would kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import psutil

T = TypeVar("T")
COMMAND = [sys.executable, "-c", "from cluster.cli import main; main()"]


def start(*arguments: object, log: Path) -> subprocess.Popen[bytes]:
    """`melray …` in a session of its own; what it prints goes to `log`."""
    with log.open("ab") as file:
        return subprocess.Popen(
            [*COMMAND, *map(str, arguments)], stdout=file, stderr=file, start_new_session=True
        )


def run(*arguments: object, timeout: float = 90) -> subprocess.CompletedProcess[str]:
    """`melray …` to its end."""
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=timeout)


def wait_for(what: Callable[[], object], seconds: float = 60) -> None:
    """Returns as soon as `what()` is true."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, f"not so within {seconds} s"
        time.sleep(0.01)


def later(when: Callable[[], object], action: Callable[[], T]) -> Future[T]:
    """Does something as soon as `when()` is true, beside the test; `result()` waits for it, and raises what went wrong."""

    def wait_and_act() -> T:
        wait_for(when)
        return action()

    pool = ThreadPoolExecutor(1)
    done = pool.submit(wait_and_act)
    pool.shutdown(wait=False)
    return done


def kill_worker(name: str, which: int = 0) -> int:
    """`kill -9` of one of this process's own Ray workers, by its title; returns its id."""
    found: list[psutil.Process] = []

    def look() -> bool:
        found[:] = workers(os.getpid(), name)
        return len(found) > which

    # Not always at once: a worker writes its title anew at each call, and a look meanwhile finds half of it.
    wait_for(look, 10)
    os.kill(found[which].pid, signal.SIGKILL)
    return found[which].pid


def workers(of: int, name: str) -> list[psutil.Process]:
    """The Ray workers below a process whose title holds `name`."""
    found = []
    for process in psutil.Process(of).children(recursive=True):
        try:
            title = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if title.startswith("ray::") and name in title:
            found.append(process)
    return found


def kill(process: subprocess.Popen[bytes]) -> None:
    """`kill -9` of a driver; then of what Ray left behind, by id, as it would end by itself in a while."""
    end_family(process.pid)
    process.wait()


def end_family(pid: int) -> None:
    """Ends a process, then all that was below it, by id; returns when they are gone."""
    try:
        first = psutil.Process(pid)
        family = [first, *first.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family, timeout=10)
