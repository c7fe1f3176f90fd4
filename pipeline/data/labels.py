"""Labels of clips in which several classes sound: one text, names of classes in sorted order joined by `;`.

An empty text is a clip without any class (background). In shapes: N number of clips, C number of classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

SEPARATOR = ";"


def join_labels(names: Iterable[str]) -> str:
    """Return the label of a clip of these classes, each named once; empty without any."""
    return SEPARATOR.join(sorted(set(names)))


def split_labels(label: str) -> list[str]:
    """Return the classes of a label, sorted; blanks around them and empty ones are left out."""
    return sorted({name.strip() for name in label.split(SEPARATOR)} - {""})


def target_matrix(labels: Iterable[str], class_names: Sequence[str]) -> np.ndarray:
    """Return which classes each clip has, bool `[shape=(N, C)]`; other names are left out."""
    index = {name: i for i, name in enumerate(class_names)}
    known: dict[str, list[int]] = {}
    texts = list(labels)
    targets = np.zeros((len(texts), len(class_names)), bool)
    for row, text in enumerate(texts):
        if text not in known:
            known[text] = [index[name] for name in split_labels(text) if name in index]
        targets[row, known[text]] = True
    return targets
