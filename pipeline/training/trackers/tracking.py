"""A process per tracker for the duration of a command, which neither waits for it nor fails with it."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from models.config import Config
from pipeline.io.console import logger
from pipeline.training.trackers import process
from pipeline.training.trackers.names import client_names
from pipeline.training.trackers.process import Task

# Seconds at the end of the command in which a tracker has to take something, and altogether: fewer if it did
# not answer before, or the user has ended the command.
FLUSH_S, MAX_FLUSH_S, SHORT_FLUSH_S = 30.0, 1800.0, 8.0
# Increment of the niceness of the process, so that the training is not slower.
NICENESS = 10
TRAINING_RUNS = "pipeline.training.trackers.tracked_runs:training_runs"


class TrackedConfig(Protocol):
    """Settings of a command whose runs are tracked."""

    @property
    def run(self) -> Path: ...

    @property
    def log_to(self) -> tuple[str, ...]: ...


@contextmanager
def tracked(
    config: TrackedConfig, read_runs: str = TRAINING_RUNS, with_settings: bool = True
) -> Iterator[None]:
    """Send the runs in the run folder of a command to its trackers during the block, and at its end.

    Args:
        config: settings of the command, whose run folder is its own.
        read_runs: function that finds the runs in it, as `module:function`.
        with_settings: whether the settings are those of the run in it, and so its parameters.

    Raises:
        UserError: the package of a tracker is missing.
    """
    names = client_names(config.log_to)
    settings = config.to_dict() if with_settings and isinstance(config, Config) else {}
    with ExitStack() as stack:
        for name in names:
            task = Task(name, str(config.run), read_runs, settings)
            stack.push(_TrackerProcess(task).end)
        yield


class _TrackerProcess:
    """Runs `process.main`."""

    def __init__(self, task: Task):
        """Start the process, with low priority; it gets no Ctrl-C of the terminal."""
        self._task = task
        self._is_down = False
        self._deadline = 0.0
        debug = logger.isEnabledFor(logging.DEBUG)
        self._process = subprocess.Popen(
            [sys.executable, "-m", process.__name__],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONSAFEPATH": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if debug else subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        priority = os.getpriority(os.PRIO_PROCESS, 0) + NICENESS
        with suppress(OSError):  # the process has failed
            os.setpriority(os.PRIO_PROCESS, self._process.pid, priority)
        self._write(json.dumps(asdict(task)) + "\n")
        self._reader = threading.Thread(target=self._read, name=task.tracker, daemon=True)
        self._reader.start()

    def _write(self, text: str) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):  # the process has failed
            self._process.stdin.write(text)
            self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message: dict[str, Any] = json.loads(line)
            if error := message.get("error"):
                self._warn(error)
            elif "recovered" in message:
                logger.info("%s answers again; it gets what it has missed", self._task.tracker)
                self._is_down = False
            else:
                self._deadline = time.monotonic() + FLUSH_S + message["seconds"]

    def _warn(self, error: str) -> None:
        """Log the first problem; later ones would be the same."""
        if not self._is_down:
            logger.warning(
                "--log-to %s: %s; the work continues, and what is missing is sent when %s answers, or when "
                "the command is run again",
                self._task.tracker,
                error,
                self._task.tracker,
            )
        self._is_down = True

    def end(self, kind: type[BaseException] | None, *_: object) -> None:
        """Have everything sent that is left, within limits; `kind` is the class of the command's error."""
        state = "finished" if kind is None else "failed" if issubclass(kind, Exception) else "stopped"
        start = time.monotonic()
        limit_s = SHORT_FLUSH_S if self._is_down or state == "stopped" else MAX_FLUSH_S
        self._deadline = start + FLUSH_S
        self._write(state)
        with suppress(OSError):
            self._process.stdin.close()  # type: ignore[union-attr]
        try:
            while self._process.poll() is None:
                if time.monotonic() > min(self._deadline, start + limit_s):
                    self._warn(f"not everything was sent within {time.monotonic() - start:.0f} s")
                    break
                time.sleep(0.05)
        finally:
            self._kill()
        self._reader.join(SHORT_FLUSH_S)
        if self._process.returncode > 0:
            self._warn(f"its process ended with exit code {self._process.returncode}")

    def _kill(self) -> None:
        """End the process with its children, if it has not ended by itself."""
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
