"""Process that follows the runs of a command for one tracker, until its standard input ends.

The first line of its standard input is a JSON object with the fields of `Task`; the last one is the state in
which the command has ended. A command that was killed sends none. Each line that it prints is a JSON object:

{"seconds": 12.5}        it is alive, and may be busy for so long beyond the usual
{"error": "…"}           the tracker does not answer, or rejects what it gets; sending is tried again
{"recovered": true}      it has answered again
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from pipeline.io.storage import is_remote, to_path
from pipeline.training.trackers.follower import Command, Follower, project_name
from pipeline.training.trackers.mlflow_client import MlflowTracker
from pipeline.training.trackers.tracked_runs import State
from pipeline.training.trackers.wandb_client import WandbTracker

# Seconds between two looks at the run folders; in an object store each look costs requests.
INTERVAL_S, STORE_INTERVAL_S = 1.0, 30.0
# The longest time between two attempts to reach a tracker that is down, in seconds.
MAX_RETRY_S = 60.0
# Longest text of an error.
MAX_ERROR = 300
# Names of variables whose values are never printed.
_SECRET = re.compile(r"(^|_)(API_?KEY|KEY|TOKEN|PASSWORD|SECRET)(_|$)")
# Class of each tracker, and the variable with the name of its project or experiment.
_CLIENTS: dict[str, tuple[str, type]] = {
    "mlflow": ("MLFLOW_EXPERIMENT_NAME", MlflowTracker),
    "wandb": ("WANDB_PROJECT", WandbTracker),
}


@dataclass(frozen=True)
class Task:
    """What the process has to do."""

    tracker: str
    root: str
    """Run folder of the command."""
    read_runs: str
    """Function that finds the runs in it, as `module:function`."""
    settings: dict[str, Any]
    """Settings of the command."""


def main() -> None:
    """Follow the command whose task is the first line of standard input."""
    send = _message_writer()
    task = Task(**json.loads(sys.stdin.readline()))
    end: list[str] = []
    has_ended = threading.Event()

    def wait_for_end() -> None:
        end.extend(sys.stdin.read().split())
        has_ended.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    sender = _Sender(task, send)
    while not has_ended.wait(sender.delay_s):
        sender.attempt(Follower.poll)
    # A command that was killed does not say how it has ended.
    state: State = "finished" if end == ["finished"] else "failed" if end == ["failed"] else "stopped"
    sender.attempt(lambda follower: follower.finish(state))


class _Sender:
    """Sends with a tracker that may be down."""

    def __init__(self, task: Task, send: Callable[..., None]):
        self._task, self._send = task, send
        self._follower: Follower | None = None
        self._failures = 0
        self._interval_s = STORE_INTERVAL_S if is_remote(to_path(task.root)) else INTERVAL_S

    @property
    def delay_s(self) -> float:
        """Seconds until the next attempt, more after every failure."""
        return min(self._interval_s * 2**self._failures, max(MAX_RETRY_S, self._interval_s))

    def attempt(self, action: Callable[[Follower], None]) -> None:
        """Call `action`, and report the first of consecutive failures."""
        try:
            if self._follower is None:
                self._follower = _follower(self._task, lambda seconds: self._send(seconds=seconds))
            action(self._follower)
        except Exception as error:
            self._failures += 1
            traceback.print_exc()  # shown under `--log-level debug`
            if self._failures == 1:
                self._send(error=describe_error(error, os.environ))
            return
        if self._failures:
            self._send(recovered=True)
        self._failures = 0


def _follower(task: Task, on_progress: Callable[[float], None]) -> Follower:
    root: Path = to_path(task.root)
    module, function = task.read_runs.split(":")
    read_runs = getattr(import_module(module), function)
    variable, client_class = _CLIENTS[task.tracker]
    project = os.environ.get(variable) or project_name(root)
    command = Command(root, read_runs, task.settings, project)
    return Follower(command, task.tracker, client_class(root), on_progress)


def describe_error(error: BaseException, environment: Mapping[str, str]) -> str:
    """Return an error in one line, without the credentials that the environment has."""
    text = " ".join(f"{error}".split()) or type(error).__name__
    for name, value in environment.items():
        if value and _SECRET.search(name):
            text = text.replace(value, f"<{name}>")
    text = re.sub(r"//[^/@\s]*@", "//", text)
    return text if len(text) <= MAX_ERROR else f"{text[:MAX_ERROR]}…"


def _message_writer() -> Callable[..., None]:
    """Keep standard output for messages: what libraries print goes to standard error."""
    messages = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def write(**values: Any) -> None:
        # The command may have ended without waiting.
        with suppress(OSError):
            messages.write(json.dumps(values) + "\n")
            messages.flush()

    return write


if __name__ == "__main__":
    main()
