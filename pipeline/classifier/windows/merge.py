"""Merge of the windows of all work units: into tables of windows, events, and predictions of recordings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.classifier.prediction.merge import (
    SUBMISSION_NAME,
    MergedPredictions,
    copy_tables,
    large_tables,
    write_lists,
)
from pipeline.classifier.prediction.recording_list import RecordingList
from pipeline.classifier.prediction.tables import (
    PREDICTIONS_NAME,
    predicted_clips,
    read_unit,
    unit_table,
    write_classes,
)
from pipeline.classifier.submission.filled_values import PredictedClips
from pipeline.classifier.submission.plan import SubmissionPlan
from pipeline.classifier.windows.annotation_files import (
    AUDACITY_FOLDER,
    EVENTS_NAME,
    RAVEN_FOLDER,
    AnnotationWriter,
)
from pipeline.classifier.windows.event_scores import SCORES_CSV_NAME, SCORES_NAME
from pipeline.classifier.windows.files import WINDOWS_CSV_NAME, WINDOWS_NAME, WindowFiles
from pipeline.classifier.windows.results import RecordingResult, ResultCollector
from pipeline.classifier.windows.settings import WindowSettings
from pipeline.data.shards import Rejected
from pipeline.distributed.work_unit import WorkUnit
from pipeline.io.concurrent import map_concurrently
from pipeline.io.errors import UserError
from pipeline.io.files import write_atomically
from pipeline.io.folder_tree import open_tree
from pipeline.io.storage import remove_tree

# Written by predictions of windows alone, in addition to `WINDOWS_NAME`, by which these are recognized.
_FILES = (WINDOWS_CSV_NAME, EVENTS_NAME, SCORES_NAME, SCORES_CSV_NAME)
_FOLDERS = (RAVEN_FOLDER, AUDACITY_FOLDER)
# Folder of the outputs of work units while a prediction is unfinished.
PARTS_NAME = ".parts"


@dataclass(frozen=True)
class WindowMerge:
    """Merge of a job whose clips are windows."""

    recordings: RecordingList
    settings: WindowSettings
    class_names: tuple[str, ...]
    plan: SubmissionPlan
    by_window: bool
    """Whether the rows of the submission are windows; otherwise recordings."""
    priors: np.ndarray
    """Prediction for recordings that cannot be read, float32 `[shape=(C,)]`."""
    label_thresholds: tuple[float, ...] | None
    """As for `predicted_labels`."""
    band: tuple[float, float]
    """Frequency range of the model in Hz."""

    def run(self, units: Sequence[WorkUnit], out: Path) -> MergedPredictions:
        """Merge the tables of all units.

        Raises:
            UserError: a table is damaged, perhaps since an interrupted job.
            OSError: a file cannot be written.
        """
        merged = MergedPredictions()
        delete_window_files(out)

        def write(
            submission: BinaryIO, predictions: BinaryIO, parquet: BinaryIO, text: BinaryIO, events: BinaryIO
        ) -> None:
            clip_ids = self.recordings.clips["clip_id"].tolist()
            annotations = AnnotationWriter(events, out, clip_ids, self.class_names, self.band)
            with WindowFiles(parquet, text, self.class_names) as windows:
                tables = _WindowTables(self, map_concurrently(read_unit, units), windows, annotations, merged)
                with closing(copy_tables(tables, predictions, self.class_names, merged)) as parts:
                    rows = (tables.windows if self.by_window else part for part in parts)
                    for chunk in self.plan.csv_chunks(rows, self.class_names):
                        submission.write(chunk.encode())
            write_classes(out, self.class_names)
            write_lists(out, merged)

        names = (SUBMISSION_NAME, PREDICTIONS_NAME, WINDOWS_NAME, WINDOWS_CSV_NAME, EVENTS_NAME)
        _write_together([out / name for name in names], write)
        return merged


def check_window_files(out: Path) -> None:
    """Check that a prediction of windows replaces nothing but what an earlier one wrote.

    Raises:
        UserError: files or folders of the same names that melray has not written, such as manual selections.
        OSError: the folder cannot be read.
    """
    entries = open_tree(out).list("")
    if WINDOWS_NAME in entries.files or PARTS_NAME in entries.folders:  # complete, or interrupted
        return
    names = [f"{name}/" for name in _FOLDERS if name in entries.folders]
    names += [name for name in _FILES if name in entries.files]
    if names:
        raise UserError(
            f"--out {out} contains {names[0]}, which no prediction of windows wrote and this one would "
            "replace; choose another --out"
        )


def delete_window_files(out: Path) -> None:
    """Delete what an earlier prediction of windows, complete or interrupted, wrote to a folder."""
    entries = open_tree(out).list("")
    for name in set(_FILES) & set(entries.files):
        (out / name).unlink(missing_ok=True)
    for name in set(_FOLDERS) & set(entries.folders):
        remove_tree(out / name)
    # Last, as the rest is recognized by it.
    (out / WINDOWS_NAME).unlink(missing_ok=True)


def _write_together(paths: Sequence[Path], write: Callable[..., None], *files: BinaryIO) -> None:
    """Call `write` on a temporary file for each path; these are renamed afterwards, the first one last."""
    if paths:
        write_atomically(paths[0], lambda file: _write_together(paths[1:], write, *files, file))
    else:
        write(*files)


class _WindowTables:
    """Iterable over the tables of recordings: one for each large table of windows, which it writes."""

    def __init__(
        self,
        job: WindowMerge,
        tables: Iterable[pa.Table],
        files: WindowFiles,
        annotations: AnnotationWriter,
        merged: MergedPredictions,
    ):
        self._job, self._tables, self._files = job, tables, files
        self._annotations, self._merged = annotations, merged
        clips = job.recordings.clips
        self._clips = [
            {"clip_id": clip_id, "path": path}
            for clip_id, path in zip(clips["clip_id"], clips["path"], strict=True)
        ]
        self.windows = PredictedClips([], np.empty((0, len(job.class_names)), np.float32))
        """Windows of the latest table, also those that cannot be read."""

    def __iter__(self) -> Iterator[pa.Table]:
        collector = ResultCollector(self._job.recordings, self._job.settings)
        for table in large_tables(self._tables):
            self.windows = predicted_clips(table)
            self._write_windows(table)
            results = list(collector.add(table, self.windows.probabilities))
            self._merged.windows += len(table)
            self._merged.events += sum(len(result.events) for result in results)
            self._annotations.write([(result.number, result.events) for result in results])
            yield self._recordings_table(results)

    def _write_windows(self, table: pa.Table) -> None:
        readable = pc.equal(table["reason"], "")
        rows = table.drop_columns(["label", "path", "reason", "warning"]).filter(readable)
        self._files.write(rows, self.windows.probabilities[readable.to_numpy()])

    def _recordings_table(self, results: Sequence[RecordingResult]) -> pa.Table:
        """Return the predictions of recordings, and list their parts that cannot be read."""
        job = self._job
        clips = [self._clips[result.number] for result in results]
        for clip, result in zip(clips, results, strict=True):
            if result.probabilities is not None:
                self._merged.damaged += [
                    Rejected(clip["clip_id"], clip["path"], f"{start:g} to {end:g} s: {reason}")
                    for start, end, reason in result.unreadable
                ]
        rows = [job.priors if result.probabilities is None else result.probabilities for result in results]
        return unit_table(
            clips,
            [result.unreadable[0].reason if result.probabilities is None else "" for result in results],
            [result.warning for result in results],
            np.array(rows, np.float32).reshape(len(results), len(job.class_names)),
            job.class_names,
            job.label_thresholds,
        )
