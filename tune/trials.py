"""What a search knows of its trials, and where that lies.

RUN/search.json            the settings of the search
RUN/scores.jsonl           one line an epoch of a trial, in the order in which they came
RUN/trials/0007/           a run as any other, with its checkpoints while it may go on; with several parts, one in each part_1/ …
RUN/trials/0007/trial.json its values and its state
RUN/best/                  the best trial's run
RUN/best.yaml              its settings, for the training command
RUN/trials.csv, RUN/report.html
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.files import write_text_atomically
from pipeline.io.storage import is_remote, remove_tree
from pipeline.training.run_folder import RunFolder

State = Literal["running", "stopped", "finished", "failed"]
Mode = Literal["max", "min"]


@dataclass(frozen=True)
class Point:
    """A trial's score after an epoch (1-based), `at` seconds after the search began."""

    epoch: int
    score: float
    at: float


@dataclass
class Trial:
    """One set of values and what came of it."""

    number: int
    values: dict[str, Any]
    """By dotted key."""
    state: State = "running"
    """`stopped`: by the scheduler, as worse than others; `finished`: it ran to its end; `failed`: for `reason`."""
    reason: str = ""
    seconds: float = 0.0
    """Of work, over all its attempts."""
    points: list[Point] = field(default_factory=list)

    def best(self, mode: Mode) -> Point | None:
        """Its best epoch; the earliest of equals."""
        return best_point(self.points, mode)


def sign(mode: Mode) -> int:
    """Makes the better score the greater one."""
    return 1 if mode == "max" else -1


def better(mode: Mode) -> Callable[[float, float], float]:
    """The better one of two scores."""
    return max if mode == "max" else min


def best_point(points: list[Point], mode: Mode) -> Point | None:
    """The point of the best score; the earliest of equals."""
    return max(points, key=lambda point: (sign(mode) * point.score, -point.epoch), default=None)


def best_trial(trials: list[Trial], mode: Mode) -> Trial | None:
    """The trial with the best epoch, failed ones aside; the earlier of equals."""
    scored = [
        (sign(mode) * point.score, -trial.number, trial)
        for trial in trials
        if trial.state != "failed" and (point := trial.best(mode))
    ]
    return max(scored)[2] if scored else None


class SearchFolder:
    """Reads and writes what a search leaves behind."""

    def __init__(self, path: Path):
        self.path = path

    def trial(self, number: int) -> Path:
        """The folder of a trial."""
        return self.path / "trials" / f"{number:04d}"

    def save(self, trial: Trial) -> None:
        """Writes a trial's values and state; its points are in `scores.jsonl`."""
        folder = self.trial(trial.number)
        with report_os_errors("writing to", folder):
            folder.mkdir(parents=True, exist_ok=True)
            values = {name: value for name, value in asdict(trial).items() if name != "points"}
            RunFolder(folder).write_json("trial.json", values)

    def append_score(self, number: int, point: Point) -> None:
        """Adds a line to `scores.jsonl`."""
        line = json.dumps({"trial": number, **asdict(point)}) + "\n"
        path = self.path / "scores.jsonl"
        with report_os_errors("writing to", self.path):
            if is_remote(path):  # which can't be added to
                path.write_text((path.read_text() if path.is_file() else "") + line)
            else:
                with path.open("a") as file:
                    file.write(line)

    def delete_checkpoints(self) -> None:
        """Takes away what trials would have gone on from, when none will."""
        for pattern in ("trials/*/kept", "trials/**/checkpoints"):
            for folder in list(self.path.glob(pattern)):
                remove_tree(folder)

    def read(self) -> list[Trial]:
        """All trials that were begun, by number.

        Raises:
            UserError: a damaged file.
        """
        trials = {}
        for path in sorted(self.path.glob("trials/*/trial.json")):
            values = RunFolder(path.parent).read_json("trial.json")
            try:
                trials[values["number"]] = Trial(**values)
            except (TypeError, KeyError) as error:
                raise UserError(
                    f"{path} is damaged ({error}): delete the folder, and the trial is run anew"
                ) from None
        for line in self._scores():
            trial = trials.get(line.pop("trial"))
            if trial is not None:
                trial.points.append(Point(**line))
        return [trials[number] for number in sorted(trials)]

    def _scores(self) -> list[dict[str, Any]]:
        path = self.path / "scores.jsonl"
        if not path.is_file():
            return []
        lines = path.read_text().splitlines(keepends=True)
        if lines and not lines[-1].endswith("\n"):
            # The driver was killed while it wrote: the trial tells this epoch once more.
            lines.pop()
            write_text_atomically(path, "".join(lines))
        return [json.loads(line) for line in lines]
