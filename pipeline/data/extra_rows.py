"""Additional training rows: other datasets, generated or extracted.

Rows of evaluated clips are left out, and rows that another dataset of the run has as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.audio.features import feature_mismatch
from pipeline.data.clips import shown_list
from pipeline.data.duplicates import SILENCE
from pipeline.data.label_sets import row_labels
from pipeline.data.rows import LabeledRows
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

# Rows that agree in these have the same spectrogram and the same classes.
_ROW_COLUMNS = ["content", "copy", "strength", "augmentation", "label"]


def check_extra_shards(shards: Path, extra_shards: Sequence[Path]) -> None:
    """Check that datasets of additional training rows fit `shards`: same features and classes.

    Raises:
        UserError: an unusable dataset, or the first difference.
    """
    base = open_shards(shards)
    for path in extra_shards:
        extra = open_shards(path, "--extra-shards")
        if extra.rows == 0:
            raise empty_dataset_error(path, extra, "--extra-shards")
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
    usable = [np.zeros(len(dataset.table), bool), *trainable_rows(dataset, split, extra)]
    added = np.flatnonzero(np.concatenate(usable))
    return np.concatenate(labels), Split(np.concatenate([split.train, added]), split.val, split.held_out)


def trainable_rows(dataset: LabeledRows, split: Split, extra: Sequence[LabeledRows]) -> list[np.ndarray]:
    """Return which rows of additional datasets are trained on, a mask for each of them.

    Not those of validation or held-out clips of `dataset`, nor rows of `dataset` or of an earlier one.
    """
    known, masks = _row_ids(dataset.table), []
    for other in extra:
        row_ids = _row_ids(other.table)
        repeated = np.isin(row_ids, known) & (other.table["content"] != SILENCE).to_numpy()
        masks.append(~_is_evaluated(dataset, split, other) & ~repeated)
        known = np.concatenate([known, row_ids])
    return masks


def _is_evaluated(dataset: LabeledRows, split: Split, extra: LabeledRows) -> np.ndarray:
    """Return the mask of the rows of `extra` that are of validation or held-out clips of `dataset`."""
    return shared_rows(extra.table, dataset.table.iloc[split.evaluated])


def _row_ids(table: pd.DataFrame) -> np.ndarray:
    """Return a hash of each row's audio, augmentation and classes, uint64 `[shape=(N,)]`."""
    return pd.util.hash_pandas_object(table[_ROW_COLUMNS], index=False).to_numpy()


def extra_warnings(
    path: Path, dataset: LabeledRows, split: Split, extra: LabeledRows, trainable: np.ndarray
) -> list[str]:
    """Describe the rows of an additional dataset that are not trained on; empty if there are none.

    Args:
        path: folder of the additional dataset.
        dataset: the dataset of the run.
        split: its split.
        extra: rows of the additional dataset.
        trainable: those that are trained on, as `trainable_rows` returns them.

    Raises:
        UserError: a generated dataset whose generator was trained on validation or held-out clips, or a
            dataset without any usable row.
    """
    warnings = _check_generator(path, open_shards(path), dataset.table.iloc[split.evaluated])
    evaluated = _is_evaluated(dataset, split, extra)
    if evaluated.all():
        raise UserError(
            f"--extra-shards {path}: all of its rows are of clips that are validated or held out; "
            "give other clips"
        )
    repeated = ~trainable & ~evaluated
    if not trainable.any():
        raise UserError(
            f"--extra-shards {path}: --shards and the datasets before it have all of its rows, which would "
            "be trained on twice: leave it out"
        )
    for excluded, reason in (
        (evaluated, "their clips or recordings are validated or held out"),
        (repeated, "--shards or a dataset before it has them as well"),
    ):
        if excluded.any():
            example = extra.table["clip_id"].to_numpy()[excluded][0]
            warnings.append(
                f"--extra-shards {path}: {excluded.sum()} of {len(excluded)} rows are not trained on, "
                f"because {reason}, such as '{example}'"
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
