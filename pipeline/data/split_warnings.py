"""What a split leaves out: classes that are not validated, not held out, or not trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.data.label_sets import label_sets
from pipeline.data.rows import LabeledRows
from pipeline.data.split import Split
from pipeline.io.text import plural

MAX_NAMES = 5


def classes_without(dataset: LabeledRows, rows: np.ndarray) -> list[str]:
    """Return the classes of a dataset that none of the rows `[shape=(K,)]` has."""
    counts = label_sets(dataset.table.iloc[rows], dataset.class_names, dataset.multi_label).counts()
    present = set(np.flatnonzero(counts).tolist())
    return [name for label, name in enumerate(dataset.class_names) if label not in present]


def unvalidated_classes(dataset: LabeledRows, split: Split) -> list[str]:
    """Return the classes without validation clips; none if the run does not validate at all."""
    return classes_without(dataset, split.val) if len(split.val) else []


def split_warnings(dataset: LabeledRows, split: Split) -> list[str]:
    """Describe what scores of a split do not cover, one line each."""
    warnings = []
    total = len(dataset.class_names)
    if missing := unvalidated_classes(dataset, split):
        reason = "a class needs two recordings, one to train on and one to validate"
        if dataset.multi_label:
            reason = "no recording with the class is validated; add recordings, or raise --val-fraction"
        warnings.append(
            f"not validated: {name_list(missing)}: {reason}; validation scores are of the other "
            f"{total - len(missing)} of {total} classes"
        )
    # A GAN can be trained on a single class, as it need not distinguish it from others.
    if len(split.val) and total - len(missing) == 1 < total and not dataset.multi_label:
        warnings.append(
            "all validation clips are of one class, so validation scores cannot distinguish a good model "
            "from one that always predicts this class: add recordings of others, or set --val-fraction 0"
        )
    if len(split.val) > 1 and dataset.table["group"].iloc[split.val].nunique() == 1:
        warnings.append(
            f"all {len(split.val)} validation clips are of one recording, so validation scores, and what is "
            "chosen by them, depend on it: raise --val-fraction, or use `melray crossval`"
        )
    if len(split.held_out) and (absent := classes_without(dataset, split.held_out)):
        warnings.append(
            f"no held-out clip of {name_list(absent)}: the held-out scores are of the other "
            f"{total - len(absent)} of {total} classes"
        )
    if untrained := classes_without(dataset, split.train):
        warnings.append(
            f"no training clip of {name_list(untrained)}: the model will never predict "
            f"{'it' if len(untrained) == 1 else 'them'}"
        )
    if copies := _num_unused(dataset, split):
        warnings.append(
            f"not used: {plural(copies, 'clip')} with the same audio as held-out clips; "
            "duplicates.csv lists them"
        )
    return warnings


def name_list(names: Sequence[str]) -> str:
    """Return quoted names as a list; those after the first few are counted."""
    text = ", ".join(f"'{name}'" for name in names[:MAX_NAMES])
    return f"{text} (+{len(names) - MAX_NAMES} more)" if len(names) > MAX_NAMES else text


def _num_unused(dataset: LabeledRows, split: Split) -> int:
    """Return the number of original clips that are in no part of the split."""
    originals = np.flatnonzero(dataset.table["copy"].to_numpy() == 0)
    return len(np.setdiff1d(originals, np.concatenate([split.train, split.evaluated])))
