"""Records of a search's trials and the files of its folder.

RUN/search.json            settings of the search, digest of the shards, format version
RUN/scores.jsonl           scores, one line per trial and epoch, in order of arrival
RUN/trials/0007/           run folder of a trial; with inner folds, one run folder per fold: fold_1/ …
RUN/trials/0007/trial.json hyperparameters and state of the trial
RUN/replaced/0007/         run with the best model of a trial that then copied another one (PBT, PB2)
RUN/best/                  run folder of the best trial
RUN/best.yaml              its settings, for the training command
RUN/trials.csv             table of all trials
RUN/report.html            report
RUN/summary.json           result
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, Literal

from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.files import remove_temporary_files, write_bytes_atomically
from pipeline.io.storage import is_remote, remove_tree
from pipeline.training.format_version import check_format_version
from pipeline.training.run_content import SEARCH_NAME
from pipeline.training.run_folder import RESTORE, TRIAL_NAME, RunFolder

# Version of `search.json`, `scores.jsonl` and `trial.json`.
SEARCH_FORMAT_VERSION = 2
SCORES_NAME = "scores.jsonl"
# Folder of Ray Tune's own state, which nothing reads, while a search runs.
RAY_TUNE_NAME = ".tune"
State = Literal["running", "stopped", "finished", "failed"]
Mode = Literal["max", "min"]


@dataclass(frozen=True)
class Point:
    """Score of a trial after an epoch."""

    epoch: int
    """1-based."""
    score: float
    elapsed_s: float
    """Seconds since the start of the search."""
    loss: float | None = None
    """Validation loss of a classifier, by which a run chooses between epochs of equal score; unknown in
    searches of earlier versions."""


@dataclass
class Trial:
    """Hyperparameters of a trial, its state and its scores."""

    number: int
    params: dict[str, Any]
    """Values of the hyperparameters by dotted key."""
    state: State = "running"
    """`stopped` by the scheduler; `finished`: trained to its last epoch; `failed`, see `reason`."""
    reason: str = ""
    """Error of a failed trial, as one line."""
    seconds: float = 0.0
    """Training time, summed over all attempts."""
    points: list[Point] = field(default_factory=list)
    resources: dict[str, Any] = field(default_factory=dict)
    """Settings of the training command for the workers, CPUs and GPUs that it was last trained with, on which
    results depend; unknown in searches of earlier versions."""

    def best(self, mode: Mode) -> Point | None:
        """Return the point of the best epoch, as `best_point`."""
        return best_point(self.points, mode)


def score_line(number: int, point: Point) -> str:
    """Return the line of a trial's score in `scores.jsonl`."""
    values = {name: value for name, value in asdict(point).items() if value is not None}
    return json.dumps({"trial": number, **values}) + "\n"


def sign(mode: Mode) -> int:
    """Return the factor that makes the better of two scores the higher one."""
    return 1 if mode == "max" else -1


def better(mode: Mode) -> Callable[[float, float], float]:
    """Return a function that returns the better of two scores."""
    return max if mode == "max" else min


def best_point(points: list[Point], mode: Mode) -> Point | None:
    """Return the point with the best score; of equals that with the lowest loss, then the earliest.

    So does the training: the model of a run is that of this epoch.
    """

    def rank(point: Point) -> tuple[float, float, int]:
        loss = math.inf if point.loss is None else point.loss
        return sign(mode) * point.score, -loss, -point.epoch

    return max(points, key=rank, default=None)


def best_trial(trials: list[Trial], mode: Mode) -> Trial | None:
    """Return the trial with the best epoch, excluding failed trials; the earliest of equals."""
    scored = [
        (sign(mode) * point.score, -trial.number, trial)
        for trial in trials
        if trial.state != "failed" and (point := trial.best(mode))
    ]
    return max(scored)[2] if scored else None


def trained_epochs(trials: Iterable[Trial]) -> dict[int, int]:
    """Return the number of epochs that each trial trained until its last score, by its number.

    A GAN has a score every few epochs only, at the same ones in all trials. Epochs that a trial trains again
    after it copied another one (PBT, PB2) count again.
    """
    trials = list(trials)
    scored = sorted({point.epoch for trial in trials for point in trial.points})
    lengths = {epoch: epoch - previous for previous, epoch in pairwise([0, *scored])}
    return {trial.number: sum(lengths[point.epoch] for point in trial.points) for trial in trials}


class SearchFolder:
    """Reads and writes the files of a search."""

    def __init__(self, path: Path):
        self.path = path
        self._stored_scores = ""
        """Content of `scores.jsonl` in an object store, once this process has written to it."""

    def trial(self, number: int) -> Path:
        """Return the folder of a trial."""
        return self.path / "trials" / f"{number:04d}"

    def replaced(self, number: int) -> Path:
        """Return the folder of the run with the best model of a trial before it copied another one."""
        return self.path / "replaced" / f"{number:04d}"

    def write_config(self, config: dict[str, Any]) -> None:
        """Write `search.json`, with the format version."""
        with report_os_errors("creating", self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            RunFolder(self.path).write_json(SEARCH_NAME, {"format_version": SEARCH_FORMAT_VERSION, **config})

    def read_config(self) -> dict[str, Any] | None:
        """Read `search.json` without the format version; None if it does not exist.

        Raises:
            UserError: a damaged file, or one of another format.
        """
        config: dict[str, Any] | None = RunFolder(self.path).read_object(SEARCH_NAME, fix=RESTORE)
        if config is None:
            return None
        check_format_version(config, self.path / SEARCH_NAME, SEARCH_FORMAT_VERSION, "start a new --run")
        del config["format_version"]
        return config

    def save(self, trial: Trial) -> None:
        """Write the `trial.json` of a trial; its points are in `scores.jsonl`."""
        folder = self.trial(trial.number)
        with report_os_errors("writing to", folder):
            folder.mkdir(parents=True, exist_ok=True)
            record = {name: value for name, value in asdict(trial).items() if name != "points"}
            if not trial.resources:
                del record["resources"]
            RunFolder(folder).write_json(TRIAL_NAME, record)

    def remove_temporary_files(self) -> None:
        """Delete what a search that was killed has left: Ray Tune's state, and unfinished files of trials."""
        remove_tree(self.path / RAY_TUNE_NAME)
        for folder in self.path.glob("trials/*"):
            remove_temporary_files(folder)

    def append_scores(self, lines: Iterable[str]) -> None:
        """Append lines to `scores.jsonl`, by `score_line`; a line that was cut off before is removed.

        To be called by the search only: what others take for such a line may be one that it is writing.
        """
        path = self.path / SCORES_NAME
        with report_os_errors("writing to", self.path):
            if is_remote(path):  # object stores cannot append
                self._stored_scores = (self._stored_scores or self._read_score_text()) + "".join(lines)
                path.write_text(self._stored_scores, encoding="utf-8")
                return
            with path.open("ab+") as file:
                _remove_incomplete_line(file)
                file.write("".join(lines).encode())

    def _read_score_text(self) -> str:
        try:
            return (self.path / SCORES_NAME).read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""

    def delete_checkpoints_after_end(self, trials: Iterable[Trial]) -> None:
        """Delete the training states of all trials if none of these will be resumed."""
        if all(trial.state != "running" for trial in trials):
            self.delete_checkpoints()

    def delete_checkpoints(self, number: int | None = None) -> None:
        """Delete the training states of a trial, or of all, once they will not be resumed."""
        folder = self.path / "trials" if number is None else self.trial(number)
        for pattern in ("**/saved_checkpoints", "**/checkpoints"):
            for path in list(folder.glob(pattern)):
                remove_tree(path)

    def read(self) -> list[Trial]:
        """Read all trials that were started, by number.

        Raises:
            UserError: a damaged file.
        """
        trials = {}
        for path in sorted(self.path.glob(f"trials/*/{TRIAL_NAME}")):
            record = RunFolder(path.parent).read_json(TRIAL_NAME, "delete the folder to run the trial again")
            try:
                trials[record["number"]] = Trial(**record)
            except (TypeError, KeyError) as error:
                raise UserError(
                    f"{path} is damaged ({error}): delete the folder to run the trial again"
                ) from None
        for number, point in self._read_scores():
            if number in trials:
                trials[number].points.append(point)
        return [trials[number] for number in sorted(trials)]

    def drop_scores_of_deleted(self, trials: Iterable[Trial]) -> None:
        """Remove the scores of trials whose folders were deleted: they run again."""
        numbers, path = {trial.number for trial in trials}, self.path / SCORES_NAME
        scores = self._read_scores()
        if all(number in numbers for number, _ in scores):
            return
        lines = _complete_lines(path)
        kept = [line for line, (number, _) in zip(lines, scores, strict=True) if number in numbers]
        write_bytes_atomically(path, b"".join(kept))

    def delete_unrecorded_runs(self, trials: Iterable[Trial]) -> None:
        """Delete the runs of other trials than those that have a record: they begin again.

        A search that was killed may have written no record yet. The trial is then suggested again, perhaps
        with other values, which its run would refuse.
        """
        recorded = {self.trial(trial.number).name for trial in trials}
        for pattern in ("trials/*/config.json", "trials/*/fold_*/config.json"):
            for path in list(self.path.glob(pattern)):
                folder = self.path / "trials" / path.relative_to(self.path).parts[1]
                if folder.name not in recorded:
                    remove_tree(folder)

    def _read_scores(self) -> list[tuple[int, Point]]:
        """Return the lines of `scores.jsonl` as numbers of trials with their points."""
        path = self.path / SCORES_NAME
        if not path.is_file():
            return []
        return [_parse_score(line, f"{path}, line {i}") for i, line in enumerate(_complete_lines(path), 1)]


def _complete_lines(path: Path) -> list[bytes]:
    """Return the lines of a file, without a last one that is being written, or was when the search ended.

    A resumed trial reports its epoch again.
    """
    lines = path.read_bytes().splitlines(keepends=True)
    return lines if not lines or lines[-1].endswith(b"\n") else lines[:-1]


def _remove_incomplete_line(file: BinaryIO) -> None:
    """Remove the last line of a file that is open to read and append, if the line was cut off."""
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        return
    file.seek(size - 1)
    if file.read(1) != b"\n":
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


def _parse_score(line: bytes, source: str) -> tuple[int, Point]:
    try:
        values = json.loads(line)
        return int(values.pop("trial")), Point(**values)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{source} is damaged ({error}): delete the line, or choose another --run") from None
