"""Tables of predictions: those of work units, and `predictions.parquet`.

A unit's table has the probabilities of all classes in one column of lists of fixed size: a column for each of
thousands of classes takes half a second to write, and as long to read. Embeddings, if requested, are lists
too, in all tables. `predictions.parquet` has a column
`p:<class>` for each class, or for more than `MAX_CLASS_COLUMNS` classes the column of lists; `classes.json`
then has the class of each position. Tables of windows also have the columns `start` and `end`, in seconds,
and the recording as `id`.

In shapes: N number of clips, C number of classes, K size of an embedding.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.classifier.submission.filled_values import PredictedClips
from pipeline.data.labels import join_labels
from pipeline.data.windows import recording_of
from pipeline.distributed.work_unit import WorkUnit, damaged_output
from pipeline.io.files import write_atomically, write_text_atomically

PREDICTIONS_NAME, CLASSES_NAME = "predictions.parquet", "classes.json"
# Of a unit's table: a job does not resume from tables of another version.
UNIT_FORMAT = 2
# More columns are slow to read, and no program for tables shows them.
MAX_CLASS_COLUMNS = 1000
# Columns whose values repeat; looking for repeated probabilities takes ten times as long as writing them.
REPEATED_COLUMNS = ["label", "reason", "warning"]
TIMES = ("start", "end")
_EMBEDDING, _PROBABILITIES = "embedding", "probabilities"


def unit_table(
    clips: Sequence[dict[str, Any]],
    reasons: Sequence[str],
    warnings: Sequence[str],
    probabilities: np.ndarray,
    class_names: Sequence[str],
    thresholds: Sequence[float] | None = None,
    embeddings: np.ndarray | None = None,
) -> pa.Table:
    """Return the table of a work unit.

    Args:
        clips: records of N clips with `clip_id` and `path`, of windows also with `start` and `end`.
        reasons: why a clip is unreadable; empty for readable ones.
        warnings: why the samples of a clip may not be what they should be; empty for most.
        probabilities: `[shape=(N, C)]`, float32.
        class_names: classes of the model.
        thresholds: as for `predicted_labels`.
        embeddings: `[shape=(N, K)]`, float32; None for a table without them.
    """
    windows = bool(clips) and "start" in clips[0]
    texts = {
        "id": [recording_of(clip["clip_id"]) if windows else clip["clip_id"] for clip in clips],
        "label": predicted_labels(probabilities, class_names, thresholds),
        "path": [clip["path"] for clip in clips],
        "reason": reasons,
        "warning": warnings,
    }
    times = {name: [clip[name] for clip in clips] for name in (TIMES if windows else ())}
    table = pa.table(
        {name: pa.array(values, pa.string()) for name, values in texts.items()}
        | {name: pa.array(values, pa.float64()) for name, values in times.items()}
    )
    if embeddings is not None:
        is_missing = np.array([bool(reason) for reason in reasons])
        table = table.append_column(_EMBEDDING, _lists(embeddings, is_missing))
    lists = _lists(probabilities)
    return table.append_column(pa.field(_PROBABILITIES, lists.type, nullable=False), lists)


def _lists(values: np.ndarray, is_missing: np.ndarray | None = None) -> pa.FixedSizeListArray:
    """Return the rows of an array `[shape=(N, K)]` as lists; some may be missing."""
    # Not nullable, which takes twice as long to read.
    element = pa.field("element", pa.float32(), nullable=False)
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    mask = None if is_missing is None else pa.array(is_missing)
    return pa.FixedSizeListArray.from_arrays(flat, type=pa.list_(element, values.shape[1]), mask=mask)


def predicted_labels(
    probabilities: np.ndarray, class_names: Sequence[str], thresholds: Sequence[float] | None = None
) -> list[str]:
    """Return the label of each clip: the most probable class, or those from their thresholds on.

    Args:
        probabilities: `[shape=(N, C)]`.
        class_names: classes of the model.
        thresholds: of a multi-label model, the probability from which on each class is present; else None.
    """
    if thresholds is None:
        return [class_names[i] for i in probabilities.argmax(1)]
    present = probabilities >= np.asarray(thresholds, np.float32)
    return [join_labels(class_names[i] for i in np.flatnonzero(row).tolist()) for row in present]


def write_unit(path: Path, table: pa.Table) -> None:
    """Write the table of a work unit atomically, with checksums.

    Raises:
        OSError: the file cannot be written.
    """
    options: dict[str, Any] = {"write_page_checksum": True, "use_dictionary": REPEATED_COLUMNS}
    write_atomically(path, lambda file: pq.write_table(table, file, **options))


def read_unit(unit: WorkUnit) -> pa.Table:
    """Read the table of a work unit, by one request to an object store.

    Raises:
        UserError: it is damaged, perhaps since an interrupted job.
    """
    try:
        source = pa.BufferReader(unit.path.read_bytes())
        return pq.read_table(source, partitioning=None, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise damaged_output(unit, error) from None


def predicted_clips(table: pa.Table) -> PredictedClips:
    """Return labels and probabilities of a table with lists."""
    lists = table[_PROBABILITIES].combine_chunks()
    probabilities = lists.flatten().to_numpy().reshape(len(lists), lists.type.list_size)
    return PredictedClips(table["label"].to_pylist(), probabilities)


def published_table(table: pa.Table, probabilities: np.ndarray, class_names: Sequence[str]) -> pa.Table:
    """Return a table as it is in `predictions.parquet`; its probabilities are given again."""
    if len(class_names) > MAX_CLASS_COLUMNS:
        return table
    columns = zip(class_names, np.ascontiguousarray(probabilities.T), strict=True)
    texts = table.drop_columns([_PROBABILITIES])
    return pa.table(
        dict(zip(texts.column_names, texts.columns, strict=True))
        | {f"p:{name}": values for name, values in columns}
    )


def write_classes(out: Path, class_names: Sequence[str]) -> None:
    """Write `classes.json` if `predictions.parquet` needs it; otherwise delete that of other predictions."""
    if len(class_names) > MAX_CLASS_COLUMNS:
        write_text_atomically(out / CLASSES_NAME, json.dumps(class_names, indent=1, ensure_ascii=False))
    else:
        (out / CLASSES_NAME).unlink(missing_ok=True)
