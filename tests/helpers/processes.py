"""`melray` as a subprocess, and killing of drivers and Ray workers."""

from __future__ import annotations

import os
import signal
import socket
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


def start_command(*arguments: object, log: Path) -> subprocess.Popen[bytes]:
    """Start `melray …` in a new session; its output is appended to `log`."""
    with log.open("ab") as file:
        return subprocess.Popen(
            [*COMMAND, *map(str, arguments)], stdout=file, stderr=file, start_new_session=True
        )


def run_command(*arguments: object, timeout: float = 90) -> subprocess.CompletedProcess[str]:
    """Run `melray …` and wait for it."""
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=timeout)


def wait_until(condition: Callable[[], object], timeout_s: float = 60) -> None:
    """Return as soon as `condition()` is true; fail after `timeout_s`."""
    start = checked = time.monotonic()
    while not condition():
        now = time.monotonic()
        assert now < start + timeout_s, f"condition not met within {timeout_s} s"
        # A slow condition, such as a search in all processes, must not keep a CPU busy.
        time.sleep(max(0.01, 2 * (now - checked)))
        checked = time.monotonic()


def listens(address: str) -> bool:
    """Return whether `host:port` accepts connections."""
    name, _, port = address.rpartition(":")
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((name, int(port))) == 0


def run_when(condition: Callable[[], object], action: Callable[[], T]) -> Future[T]:
    """Run `action` in a thread once `condition()` is true; `result()` waits for it and raises its error."""

    def wait_and_act() -> T:
        wait_until(condition)
        return action()

    pool = ThreadPoolExecutor(1)
    future = pool.submit(wait_and_act)
    pool.shutdown(wait=False)
    return future


def kill_worker(name: str, index: int = 0) -> int:
    """Kill (SIGKILL) one of this process's Ray workers by its title; return its process id."""
    matches: list[psutil.Process] = []

    def find_worker() -> bool:
        matches[:] = ray_workers(os.getpid(), name)
        return len(matches) > index

    # Retry: a worker rewrites its title at each call, and may be read half-written.
    wait_until(find_worker, 10)
    os.kill(matches[index].pid, signal.SIGKILL)
    return matches[index].pid


def ray_workers(driver_pid: int, name: str) -> list[psutil.Process]:
    """Return the Ray workers below a driver whose title contains `name`."""
    matches = []
    for process in psutil.Process(driver_pid).children(recursive=True):
        try:
            title = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if title.startswith("ray::") and name in title:
            matches.append(process)
    return matches


def kill_driver(process: subprocess.Popen[bytes]) -> None:
    """Kill (SIGKILL) a driver, then its remaining Ray processes, which would exit by themselves later."""
    kill_process_tree(process.pid)
    process.wait()


def kill_command_when(
    condition: Callable[[], object], *arguments: object, log: Path, timeout_s: float = 60
) -> None:
    """Run `melray …` until `condition()` is true, then kill its driver."""
    driver = start_command(*arguments, log=log)
    wait_until(condition, timeout_s)
    kill_driver(driver)


def kill_and_resume_extraction(out: Path, *flags: object, log: Path) -> None:
    """Run `melray extract …` into `out`, kill it after two shards, and run it again to its end.

    Fails if the killed run has published the dataset, or if the other one writes a finished shard again.
    """
    command = ("extract", *flags, "--out", out)
    kill_command_when(lambda: len(list(out.glob("part-*"))) >= 2, *command, log=log)
    assert not (out / "_manifest.json").exists()
    finished = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}
    result = run_command(*command)
    assert result.returncode == 0, result.stderr
    assert {name: (out / name).stat().st_mtime_ns for name in finished} == finished


def kill_process_tree(pid: int) -> None:
    """Kill a process, then its descendants; return when they have exited."""
    try:
        root = psutil.Process(pid)
        processes = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=10)
