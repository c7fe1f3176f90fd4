"""Predictions of clips, and the values of a submission that are made from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from pipeline.classifier.submission.class_names import join_words
from pipeline.data.labels import split_labels


class PredictedClips(NamedTuple):
    """Predictions of N clips of C classes."""

    labels: Sequence[str]
    """Predicted class of each clip; of a multi-label model the classes, as in `pipeline/data/labels.py`."""
    probabilities: np.ndarray
    """`[shape=(N, C)]`, float32."""


@dataclass(frozen=True)
class Values:
    """What a submission is filled with."""

    kind: Literal["label", "labels", "index", "probability"]
    columns: dict[str, str | None]
    """Columns to fill: for probabilities with their classes, None for one that the model does not have."""
    count: int = 1
    """Number of labels in a row."""
    separator: str = " "
    """Text between the labels of a row."""
    warnings: list[str] = field(default_factory=list)
    note: str = ""
    """How to read the values."""
    multi_label: bool = False
    """Whether the labels of clips are any number of classes; `count` is then not used."""
    no_label: str = ""
    """Text of a row without any class."""

    @property
    def is_matrix(self) -> bool:
        """Whether there is a column for each of several classes."""
        return len(self.columns) > 1

    def fill(self, clips: PredictedClips, class_names: Sequence[str]) -> np.ndarray:
        """Return the values of N clips: float32 `[shape=(N, columns)]`, or of a single column `[shape=(N,)]`.

        Args:
            clips: predictions of some clips.
            class_names: classes of the model.
        """
        labels, probabilities = clips
        index = {name: position for position, name in enumerate(class_names)}
        if self.kind == "label":
            return np.array(labels, object)
        if self.kind == "index":
            return np.array([index[label] for label in labels], np.int64)
        if self.kind == "labels" and self.multi_label:
            return self._present_labels(labels)
        if self.kind == "labels":
            return self._top_labels(probabilities, class_names)
        positions = [-1 if name is None else index[name] for name in self.columns.values()]
        values = np.where(np.array(positions) < 0, np.float32(0), probabilities[:, positions])
        return values if self.is_matrix else values[:, 0]

    def _present_labels(self, labels: Sequence[str]) -> np.ndarray:
        names = [split_labels(label) for label in labels]
        if self.separator == " ":
            names = [list(map(join_words, row)) for row in names]
        return np.array([self.separator.join(row) or self.no_label for row in names], object)

    def _top_labels(self, probabilities: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
        names = [join_words(name) if self.separator == " " else name for name in class_names]
        remaining, order = probabilities.copy(), []
        # Sorting thousands of classes for a few labels would take longer.
        for _ in range(self.count):
            order.append(remaining.argmax(axis=1))
            remaining[np.arange(len(remaining)), order[-1]] = -1.0
        rows = np.stack(order, axis=1)
        return np.array([self.separator.join(names[i] for i in row) for row in rows], object)
