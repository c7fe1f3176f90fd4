"""Additional training rows: other datasets, generated or extracted, without the clips that are evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.audio.features import feature_mismatch
from pipeline.data.clips import shown_list
from pipeline.data.dataset import dataset_digest
from pipeline.data.label_sets import row_labels
from pipeline.data.rows import LabeledRows, Rows
from pipeline.data.shard_manifest import ShardManifest, empty_dataset_error, open_shards
from pipeline.data.split import Split
from pipeline.data.split_record import (
    GENERATOR_SPLIT_NAME,
    SPLIT_NAME,
    leakage_error,
    read_split_record,
    shared_rows,
    trained_clips,
)
from pipeline.io.errors import UserError
from pipeline.io.storage import to_path


def check_extra_shards(shards: Path, extra_shards: Sequence[Path]) -> None:
    """Check that datasets of additional training rows fit `shards`: same features and classes, other rows.

    Raises:
        UserError: an unusable dataset, one that is given twice, or the first difference.
    """
    base = open_shards(shards)
    given = {dataset_digest(base): f"--shards {shards}"}
    for path in extra_shards:
        extra = open_shards(path, "--extra-shards")
        if extra.rows == 0:
            raise empty_dataset_error(path, extra, "--extra-shards")
        digest = dataset_digest(extra)
        if same := given.get(digest):
            raise UserError(
                f"--extra-shards {path} has the same rows as {same}, which would be trained on twice: "
                "leave it out"
            )
        given[digest] = f"--extra-shards {path}"
        mismatch = feature_mismatch(extra.features, base.features, "--shards has")
        if mismatch is not None:
            raise UserError(
                f"--extra-shards {path} has {mismatch}: extract or generate with the same features"
            )
        unknown = sorted(set(extra.class_names) - set(base.class_names))
        if unknown:
            raise UserError(
                f"--extra-shards {path}: class '{unknown[0]}' is not in --shards {shards}; "
                f"available: {shown_list(base.class_names, 20)}"
            )


def append_extra_rows(
    dataset: LabeledRows, split: Split, extra: Sequence[LabeledRows]
) -> tuple[np.ndarray, Split]:
    """Append the rows of additional datasets to the training rows, except those of evaluated clips.

    Returns:
        Class of every row as in `LabeledRows.labels`, `dataset` first and then each of `extra`, and the split
        with the appended rows used for training only.
    """
    names = dataset.class_names
    labels = [dataset.labels, *(row_labels(other.table, names, other.multi_label) for other in extra)]
    usable = [np.zeros(len(dataset.table), bool), *(trainable_rows(dataset, split, other) for other in extra)]
    added = np.flatnonzero(np.concatenate(usable))
    return np.concatenate(labels), Split(np.concatenate([split.train, added]), split.val, split.held_out)


def trainable_rows(dataset: LabeledRows, split: Split, extra: LabeledRows) -> np.ndarray:
    """Return the mask of the rows of `extra` that are not of validation or held-out clips of `dataset`."""
    return ~shared_rows(extra.table, dataset.table.iloc[split.evaluated])


def extra_warnings(path: Path, dataset: LabeledRows, split: Split, extra: Rows) -> list[str]:
    """Describe the rows of an additional dataset that are not trained on; empty if there are none.

    Raises:
        UserError: a generated dataset whose generator was trained on validation or held-out clips, or a
            dataset without any usable row.
    """
    warnings = _check_generator(path, open_shards(path), dataset.table.iloc[split.evaluated])
    usable = trainable_rows(dataset, split, extra)
    if not usable.any():
        raise UserError(
            f"--extra-shards {path}: all of its rows are of clips that are validated or held out; "
            "give other clips"
        )
    if excluded := int((~usable).sum()):
        example = extra.table["clip_id"].to_numpy()[~usable][0]
        warnings.append(
            f"--extra-shards {path}: {excluded} of {len(usable)} rows are not trained on, because their "
            f"clips or recordings are validated or held out, such as '{example}'"
        )
    return warnings


def _check_generator(path: Path, manifest: ShardManifest, evaluated: pd.DataFrame) -> list[str]:
    """Check that the generator of a dataset was not trained on the clips `evaluated`; return warnings.

    Raises:
        UserError: it was: the generated clips resemble these, and scores on them would be too high.
    """
    generator = manifest.source.get("generator")
    if generator is None or evaluated.empty:
        return []
    record = read_split_record(path / GENERATOR_SPLIT_NAME)
    if record is None:
        record = read_split_record(to_path(Path(generator)) / SPLIT_NAME)
    if record is None:
        return [
            f"--extra-shards {path}: cannot check that its generator was not trained on clips that are "
            f"validated or held out here: no {SPLIT_NAME} in {generator}"
        ]
    leaking = shared_rows(evaluated, trained_clips(record))
    if leaking.any():
        raise leakage_error(f"--extra-shards {path}: its generator {generator}", evaluated, leaking)
    return []
