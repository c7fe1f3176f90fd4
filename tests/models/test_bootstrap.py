"""Bootstrap intervals agree with the binomial distribution and narrow with the number of clips."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from models.bootstrap import confidence_intervals


def predictions(clips: int, wrong: int) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(clips) % 4
    predicted = labels.copy()
    predicted[:wrong] = (predicted[:wrong] + 1) % 4
    return labels, predicted


@pytest.mark.parametrize(("clips", "wrong"), [(40, 4), (400, 100), (4000, 200)])
def test_interval_of_accuracy_is_binomial(clips: int, wrong: int) -> None:
    intervals = confidence_intervals(*predictions(clips, wrong), 4)
    expected = scipy.stats.binom(clips, 1 - wrong / clips).interval(0.95)
    np.testing.assert_allclose(
        intervals["accuracy"], np.array(expected) / clips, atol=0.35 / np.sqrt(clips) * 0.2
    )
    low, high = intervals["macro_f1"]
    assert low < 1 - wrong / clips < high


def test_intervals_are_reproducible_and_exact_without_mistakes() -> None:
    labels, predicted = predictions(100, 20)
    assert confidence_intervals(labels, predicted, 4) == confidence_intervals(labels, predicted, 4)
    assert confidence_intervals(labels, labels, 4) == {"accuracy": [1.0, 1.0], "macro_f1": [1.0, 1.0]}
