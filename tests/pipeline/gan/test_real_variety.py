"""Variety of real clips, by which collapse and diversity loss are measured."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from pipeline.data.split import Split
from pipeline.gan.real_variety import measure_variety, rows_of_all_classes, variety_rows

NO_ROWS = np.zeros(0, int)


@pytest.mark.parametrize(("classes", "clips"), [(2, 8), (1000, 3), (3000, 2), (600, 7)])
@pytest.mark.parametrize("is_sorted", [True, False])
def test_variety_is_that_of_the_clips_for_any_number_of_classes(
    classes: int, clips: int, is_sorted: bool
) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), clips)
    if not is_sorted:
        labels = rng.permutation(labels)
    mels = rng.normal(0, 10, (len(labels), 4, 30)).astype(np.float16)
    dataset = cast(
        Any, SimpleNamespace(class_names=tuple(map(str, range(classes))), labels=labels, mels=mels)
    )
    rows = variety_rows(dataset, Split(np.arange(len(labels)), NO_ROWS, NO_ROWS))
    assert np.bincount(np.bincount(labels[rows], minlength=classes))[1:2].sum() == 0  # none has a single row
    diversity, difference_C = measure_variety(dataset, rows, np.full(4, 10.0))
    # The mean difference of two independent normal values, and a bound on the standard deviation of few.
    assert difference_C.mean() == pytest.approx(2 / np.sqrt(np.pi), rel=0.1)
    assert min(diversity.values()) > 2.0
    assert difference_C.shape == (classes,) and difference_C.min() > 0.5


def test_each_class_is_compared_with_its_own_recordings() -> None:
    """Steady sounds vary less than others; copies do not vary, and of a single clip nothing is known."""
    rng = np.random.default_rng(0)
    labels = np.array([0] * 20 + [1] * 20 + [2] * 20 + [3])
    scale = np.array([1.0, 10.0, 0.0, 5.0])[labels]
    mels = (rng.normal(0, 1, (len(labels), 4, 30)) * scale[:, None, None]).astype(np.float32)
    dataset = cast(Any, SimpleNamespace(class_names=tuple("abcd"), labels=labels, mels=mels))
    _, difference_C = measure_variety(dataset, np.arange(len(labels)), np.full(4, 10.0))
    steady, varied = 0.1 * 2 / np.sqrt(np.pi), 2 / np.sqrt(np.pi)
    assert difference_C == pytest.approx([steady, varied, 0.0, (steady + varied) / 2], rel=0.05)


@pytest.mark.parametrize("rare", [0, 1, 3, 9])
def test_rare_classes_are_in_the_sample(rare: int) -> None:
    """Of a class with one clip in it nothing would be known, and it would be left out of all metrics."""
    labels = np.random.default_rng(0).permutation(np.array([0] * 6000 + [1] * 6000 + [2] * rare))
    rows = np.flatnonzero(np.arange(len(labels)) % 50 > 0)
    sampled = rows_of_all_classes(labels, rows, 2000, 4)
    assert set(sampled) <= set(rows) and len(set(sampled)) == len(sampled)
    assert 2000 <= len(sampled) <= 2004
    available = int((labels[rows] == 2).sum())
    assert int((labels[sampled] == 2).sum()) >= min(available, 4)
