"""Classes of each row of a dataset: one, or in a multi-label dataset any number.

In shapes: N number of rows, C number of classes, U number of different label sets, K number of chosen rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.data.labels import target_matrix


@dataclass(frozen=True)
class LabelSets:
    """Classes of N rows; rows with the same classes share their memory."""

    index: np.ndarray
    """Label set of each row `[shape=(N,)]`, int64."""
    sets: np.ndarray
    """Classes of each label set, bool `[shape=(U, C)]`."""

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        """Return which classes some rows have, bool `[shape=(K, C)]`."""
        return self.sets[self.index[rows]]

    @property
    def sizes(self) -> np.ndarray:
        """Number of classes of each row `[shape=(N,)]`."""
        return self.sets.sum(axis=1)[self.index]

    def counts(self, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Return the number of rows of each class `[shape=(C,)]`, int64."""
        return np.bincount(self.index[rows], minlength=len(self.sets)) @ self.sets.astype(np.int64)

    def frequencies(self, rows: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """Return the fraction of some rows with each class `[shape=(C,)]`, by weights (default: 1)."""
        totals = np.bincount(self.index[rows], weights, minlength=len(self.sets))
        return totals @ self.sets / totals.sum()

    def rarest_classes(self) -> np.ndarray:
        """Return the rarest class of each row `[shape=(N,)]`, int64; C for a row without any.

        These are the strata of a split, and the classes of balanced sampling (Sechidis et al. 2011 distribute
        the rarest class first, too): common classes are frequent enough everywhere.
        """
        num_classes = self.sets.shape[1]
        rarest_first = np.argsort(self.counts(), kind="stable")
        ordered = self.sets[:, rarest_first]
        first = np.where(ordered.any(axis=1), ordered.argmax(axis=1), num_classes)
        return np.append(rarest_first, num_classes)[first][self.index]


def label_sets(table: pd.DataFrame, class_names: Sequence[str], multi_label: bool) -> LabelSets:
    """Return the classes of the rows of a table.

    Args:
        table: its column `label` is a class, or in a multi-label dataset a text as in `labels.py`.
        class_names: names of the C classes; others are left out.
        multi_label: whether the dataset is one.
    """
    if not multi_label:
        index, num_classes = class_indices(table, class_names), len(class_names)
        # A label that is no class is that of the last set, which is empty.
        return LabelSets(
            np.where(index < 0, num_classes, index), np.eye(num_classes + 1, num_classes, dtype=bool)
        )
    codes, texts = pd.factorize(table["label"])
    return LabelSets(codes.astype(np.int64), target_matrix(texts, class_names))


def join_label_sets(parts: Sequence[LabelSets]) -> LabelSets:
    """Return the label sets of the rows of all parts, one after the other."""
    starts = np.cumsum([0, *(len(part.sets) for part in parts[:-1])])
    return LabelSets(
        np.concatenate([part.index + start for part, start in zip(parts, starts, strict=True)]),
        np.concatenate([part.sets for part in parts]),
    )


def class_indices(table: pd.DataFrame, class_names: Sequence[str]) -> np.ndarray:
    """Return the class index of each row `[shape=(N,)]`, int64; -1 for a label that is not a class."""
    return pd.Categorical(table["label"], categories=list(class_names)).codes.astype(np.int64)


def row_labels(table: pd.DataFrame, class_names: Sequence[str], multi_label: bool) -> np.ndarray:
    """Return the class of each row by which it is split and sampled `[shape=(N,)]`, int64.

    In a multi-label dataset it is the rarest class of the row, and C for a row without any; otherwise its
    class, and -1 for a label that is not one.
    """
    if multi_label:
        return label_sets(table, class_names, True).rarest_classes()
    return class_indices(table, class_names)


def count_label_sets(sizes: np.ndarray) -> str:
    """Describe rows that do not have one class, by the number of classes of each `[shape=(N,)]`."""
    none, several = int((sizes == 0).sum()), int((sizes > 1).sum())
    return f"{none} of {len(sizes)} rows have no class and {several} have several"
