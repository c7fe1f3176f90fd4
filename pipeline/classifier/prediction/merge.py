"""Merge of the tables of all work units into the files of a prediction, with few in memory at a time."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.classifier.prediction.tables import (
    PREDICTIONS_NAME,
    REPEATED_COLUMNS,
    predicted_clips,
    published_table,
    read_unit,
    write_classes,
)
from pipeline.classifier.submission.filled_values import PredictedClips
from pipeline.classifier.submission.plan import SubmissionPlan
from pipeline.data.shards import (
    REJECTED_NAME,
    WARNINGS_NAME,
    ClipWarning,
    Rejected,
    rejected_csv,
    warnings_csv,
)
from pipeline.distributed.work_unit import WorkUnit
from pipeline.io.concurrent import map_concurrently
from pipeline.io.files import write_atomically, write_text_atomically

SUBMISSION_NAME = "submission.csv"
# Size in memory of a row group of predictions.parquet, and of the tables that are merged at a time.
ROW_GROUP_BYTES = 64 << 20


@dataclass
class MergedPredictions:
    """What was merged."""

    clips: int = 0
    windows: int = 0
    """Windows of recordings, and their events; 0 for whole clips."""
    events: int = 0
    unreadable: list[Rejected] = field(default_factory=list)
    damaged: list[Rejected] = field(default_factory=list)
    """Parts of recordings that could not be read, with times."""
    warnings: list[ClipWarning] = field(default_factory=list)
    """One for each clip that was read with warnings."""

    def add(self, table: pa.Table) -> None:
        """Add the clips of a table of predictions."""
        self.clips += len(table)
        self.unreadable += [Rejected(*clip) for clip in _clips_with(table, "reason")]
        self.warnings += [ClipWarning(*clip) for clip in _clips_with(table, "warning")]


def merge_predictions(
    units: Sequence[WorkUnit], out: Path, plan: SubmissionPlan, class_names: Sequence[str]
) -> MergedPredictions:
    """Merge the tables of all units into predictions, submission and lists of conspicuous clips.

    Raises:
        UserError: a table is damaged, perhaps since an interrupted job.
        OSError: a file cannot be written.
    """
    merged = MergedPredictions()

    def write_submission(submission: BinaryIO) -> None:
        def write_predictions(predictions: BinaryIO) -> None:
            tables = map_concurrently(read_unit, units)
            with closing(copy_tables(large_tables(tables), predictions, class_names, merged)) as parts:
                for text in plan.csv_chunks(parts, class_names):
                    submission.write(text.encode())

        write_atomically(out / PREDICTIONS_NAME, write_predictions)
        write_classes(out, class_names)
        write_lists(out, merged)

    write_atomically(out / SUBMISSION_NAME, write_submission)
    return merged


def write_lists(out: Path, merged: MergedPredictions) -> None:
    """Write the lists of clips that could not be read, or with warnings."""
    lists = {
        REJECTED_NAME: rejected_csv(merged.unreadable + merged.damaged),
        WARNINGS_NAME: warnings_csv(merged.warnings),
    }
    for _ in map_concurrently(lambda file: write_text_atomically(out / file[0], file[1]), lists.items()):
        pass


def copy_tables(
    tables: Iterable[pa.Table], file: BinaryIO, class_names: Sequence[str], merged: MergedPredictions
) -> Generator[PredictedClips]:
    """Write tables to `predictions.parquet`, each as a row group; yield their clips."""
    writer = None
    # Closes the writer before the file, also after an error.
    with ExitStack() as stack:
        for table in tables:
            clips = predicted_clips(table)
            published = published_table(table, clips.probabilities, class_names)
            if writer is None:
                new = pq.ParquetWriter(file, published.schema, use_dictionary=REPEATED_COLUMNS)
                writer = stack.enter_context(new)
            writer.write_table(published)
            merged.add(table)
            yield clips


def _clips_with(table: pa.Table, column: str) -> Iterator[tuple[str, ...]]:
    """Yield id, path and text of the clips that have a text in a column."""
    chosen = table.filter(pc.not_equal(table[column], ""))
    yield from zip(*(chosen[name].to_pylist() for name in ("id", "path", column)), strict=True)


def large_tables(parts: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Concatenate tables until they have `ROW_GROUP_BYTES`."""
    pending: list[pa.Table] = []
    size = 0
    for part in parts:
        pending.append(part)
        size += part.nbytes
        if size >= ROW_GROUP_BYTES:
            yield pa.concat_tables(pending)
            pending, size = [], 0
    if pending:
        yield pa.concat_tables(pending)
