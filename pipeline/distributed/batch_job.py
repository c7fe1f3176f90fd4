"""Resumable batch jobs: many clips in, one output file per work unit, in this process or on a Ray cluster.

    job = BatchJob("extracting", clips, clips_per_unit=256, settings=[...], folder=out)  # plan
    summaries = job.run([partial(ShardWriter, features, augment)], RayRunner())          # run what is missing
    ...                                                                                  # publish the outputs
    job.clean_up(keep_outputs=True)

1. Plan: neighboring clips form a work unit. Its name is that of its output file and contains a digest of all
   that determines the output: the settings, and each clip's name, label, size and modification time.
2. Resume: an output appears atomically under its name, so a unit whose file exists is finished. A rerun makes
   only what is missing, also after a crash, a change of settings or of files.
3. Run: a runner passes the pending units through the stages of the job, such as a decoder and a model, each
   built once per worker process. A stage returns a small summary; the data itself goes to the output file.
4. Publish: the command merges or lists the outputs, then `clean_up` deletes what only the job needed.

Workers read the clips of a unit from files (`pipeline/distributed/clip_list.py`): neither the driver nor Ray
holds lists of millions of clips. Nothing is requested from an object store for each unit, except what a
`read_summary` reads, concurrently.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from pipeline.distributed.failures import describe_bug
from pipeline.distributed.quarantine import clear_quarantine
from pipeline.distributed.ray_metrics import count_clips
from pipeline.distributed.work_unit import WorkUnit, make_work_units
from pipeline.distributed.worker import disable_malloc_trim
from pipeline.io.concurrent import map_concurrently
from pipeline.io.console import Progress, logger
from pipeline.io.errors import UserError, explain_os_error, report_os_errors
from pipeline.io.folder_tree import open_tree
from pipeline.io.storage import remove_files, remove_tree

# Outputs, clip lists, and unfinished files of both. Narrow: the folder may also have files of other programs,
# such as `part-00000.parquet`.
_JOB_FILE = re.compile(
    r"part-\d{5,}-[0-9a-f]{12}\.parquet|\.units(-[0-9a-f]{12}(-\d+)?)?\.arrow"
    r"|\.(part-|\.units).*\.[0-9a-f]{8}\.tmp"
)


class UnitResult(NamedTuple):
    """Outcome of one work unit."""

    name: str
    summary: Any = None
    """Return value of the last stage."""
    error: str = ""
    """Why the output was not written, in one line."""
    traceback: str = ""
    """Traceback of an error that the user cannot fix."""


# Called on a unit, after the first stage also with the previous stage's result; the last writes `unit.path`.
Stage = Callable[..., Any]
# Builds a stage in a worker process, such as `partial(Predictor, config)`; must be picklable and small.
StageBuilder = Callable[[], Stage]
# Runs units through stages, in any order.
Runner = Callable[[Sequence[WorkUnit], Sequence[StageBuilder]], Iterable[UnitResult]]


class BatchJob:
    """A resumable job that turns clips into one output file per work unit."""

    def __init__(
        self,
        description: str,
        clips: pd.DataFrame,
        clips_per_unit: int,
        settings: Any,
        folder: Path,
        *,
        read_summary: Callable[[Path], Any] | None = None,
        known_outputs: Callable[[], Mapping[str, tuple[int, Any]]] = dict,
        count_rejected: Callable[[Any], int] = lambda summary: 0,
    ):
        """Plan the job, the same for any cluster, and write the clip list that workers read.

        Args:
            description: label of the progress display, such as `extracting`.
            clips: manifest with one row per clip; not kept in memory.
            clips_per_unit: clips of a work unit; the last unit may have fewer.
            settings: JSON-serializable; everything other than the clips that determines the outputs.
            folder: folder of the outputs; created if missing.
            read_summary: returns the summary of a finished output, equal to what the last stage returned;
                called from several threads. None if summaries are not used.
            known_outputs: returns summaries that need not be read, by the names of outputs: size of the
                output in bytes, by which one that was cut short or replaced is recognized, and summary.
            count_rejected: returns the number of rejected clips from a summary, for the progress display.

        Raises:
            UserError: the folder or the list cannot be written.
        """
        self.description, self.folder = description, folder
        self._items = "windows" if "start" in clips else "clips"  # of recordings, or whole files
        self._read_summary, self._count_rejected = read_summary, count_rejected
        self._known_outputs = known_outputs
        with report_os_errors("creating", folder):
            folder.mkdir(parents=True, exist_ok=True)
        self.units = make_work_units(clips, clips_per_unit, settings, folder)

    def run(self, stages: Sequence[StageBuilder], runner: Runner) -> list[Any]:
        """Make the missing outputs; return the summaries of all units in their order.

        Raises:
            UserError: the first error that a stage raised, or that of the runner.
        """
        summaries = self._finished_summaries()
        pending = [unit for unit in self.units if unit.name not in summaries]
        if pending:
            self._run_pending(pending, summaries, stages, runner)
        elif self.units:
            clips = sum(unit.clips for unit in self.units)
            Progress(self.description, clips, self._items, done=clips).finish()
        return [summaries[unit.name] for unit in self.units]

    def output_sizes(self) -> dict[str, int]:
        """Return the size in bytes of each output in the folder, also of other plans; by one listing."""
        tree = open_tree(self.folder)
        names = [name for name in tree.list("").files if name.startswith("part-")]
        return {name: tree.status(name).size for name in names}

    def _finished_summaries(self) -> dict[str, Any]:
        with report_os_errors("reading", self.folder):
            sizes = self.output_sizes()
        finished = [unit for unit in self.units if unit.name in sizes]
        if self._read_summary is None or not finished:
            return dict.fromkeys(unit.name for unit in finished)
        known = self._known_outputs()
        summaries = {
            unit.name: known[unit.name][1]
            for unit in finished
            if unit.name in known and known[unit.name][0] == sizes[unit.name]
        }
        others = [unit.path for unit in finished if unit.name not in summaries]
        for path, summary in zip(others, map_concurrently(self._read_summary, others), strict=True):
            summaries[path.name] = summary
        return summaries

    def _run_pending(
        self,
        pending: list[WorkUnit],
        summaries: dict[str, Any],
        stages: Sequence[StageBuilder],
        runner: Runner,
    ) -> None:
        """Run the pending units, add their summaries to those of the finished ones, and report progress."""
        clips = {unit.name: unit.clips for unit in self.units}
        rejected = sum(map(self._count_rejected, summaries.values()))
        done = sum(clips[name] for name in summaries)
        with Progress(self.description, sum(clips.values()), self._items, done) as progress:
            for result in runner(pending, stages):
                if result.error:
                    logger.debug("%s", result.traceback or result.error)
                    raise UserError(result.error)
                summaries[result.name] = result.summary
                rejected += self._count_rejected(result.summary)
                progress.add(clips[result.name], _rejected_note(rejected))
                count_clips(self.description, clips[result.name])
            progress.finish(_rejected_note(rejected))

    def clean_up(self, keep_outputs: bool = False) -> None:
        """Delete the files of the job after its outputs have been published.

        Args:
            keep_outputs: delete only the clip list, the quarantine, unfinished files, and outputs of earlier
                plans; otherwise the whole folder.
        """
        if not keep_outputs:
            remove_tree(self.folder)
            return
        clear_quarantine(self.folder)
        names = {unit.name for unit in self.units}
        outdated = [
            path
            for path in self.folder.iterdir()
            if _JOB_FILE.fullmatch(path.name) and path.name not in names
        ]
        remove_files(outdated)


def _rejected_note(count: int) -> str:
    return f"{count} rejected" if count else ""


def run_in_process(units: Sequence[WorkUnit], stages: Sequence[StageBuilder]) -> Iterator[UnitResult]:
    """Run units one after another in this process: for small jobs, tests and comparison."""
    disable_malloc_trim()
    built = [build() for build in stages]
    for unit in units:
        yield run_stages(unit, lambda: built)


def run_stages(
    unit: WorkUnit,
    build: Callable[[], Sequence[Stage]],
    *arguments: Any,
    attempt: AbstractContextManager[Any] = nullcontext(),
) -> UnitResult:
    """Run stages on a unit, the first with `arguments`, the others with the result of the one before.

    Errors, also those of `build`, are values rather than exceptions, of which Ray would log long tracebacks.
    """
    try:
        with attempt:
            for stage in build():
                arguments = (stage(unit, *arguments),)
    except Exception as error:
        return failed_unit(unit, error)
    return UnitResult(unit.name, arguments[0])


def failed_unit(unit: WorkUnit, error: Exception) -> UnitResult:
    """Return the result of a unit whose output could not be made or written."""
    if isinstance(error, UserError):
        return UnitResult(unit.name, error=str(error))
    if isinstance(error, OSError):
        return UnitResult(unit.name, error=explain_os_error(error, f"writing {unit.path}"))
    text = "".join(traceback.format_exception(error))
    return UnitResult(unit.name, error=describe_bug(error), traceback=text)
