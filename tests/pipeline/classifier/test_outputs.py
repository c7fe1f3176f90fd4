"""Outputs of windows, of which some cannot be read, and their means over clips."""

import numpy as np
import pytest

from pipeline.classifier.outputs import Outputs

WINDOWS = Outputs(
    np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]], np.float32),
    np.array([[1.0], [3.0], [8.0]], np.float32),
)


@pytest.mark.parametrize("outputs", [WINDOWS, Outputs(WINDOWS.probabilities)])
def test_means_over_windows_of_clips(outputs: Outputs):
    means = outputs.means([2, 0, 1])
    np.testing.assert_equal(means.probabilities, [[0.5, 0.5], [np.nan, np.nan], [0.5, 0.5]])
    if outputs.embeddings is None:
        assert means.embeddings is None
    else:
        np.testing.assert_equal(means.embeddings, [[2.0], [np.nan], [8.0]])


def test_means_without_readable_clips():
    means = WINDOWS.select([]).means([0, 0])
    assert means.embeddings is not None
    assert means.probabilities.shape == (2, 2) and means.embeddings.shape == (2, 1)
    assert np.isnan(means.probabilities).all() and np.isnan(means.embeddings).all()


@pytest.mark.parametrize("rows", [[0, 3, 4], [True, False, False, True, True], slice(0, 5, 2)])
def test_missing_rows_are_nan(rows):
    spread = WINDOWS.with_missing(rows, 5)
    assert spread.embeddings is not None and len(spread.probabilities) == 5
    np.testing.assert_equal(spread.select(rows).probabilities, WINDOWS.probabilities)
    np.testing.assert_equal(spread.select(rows).embeddings, WINDOWS.embeddings)
    assert np.isnan(spread.probabilities).all(axis=1).sum() == 2
    assert np.isnan(spread.embeddings).all(axis=1).sum() == 2


def test_all_rows_can_be_missing():
    spread = WINDOWS.select([]).with_missing([], 2)
    assert np.isnan(spread.probabilities).all() and spread.probabilities.shape == (2, 2)


def test_join_keeps_the_order():
    parts = [WINDOWS.select([2]), WINDOWS.select([]), WINDOWS.select([0, 1])]
    np.testing.assert_equal(Outputs.join(parts).embeddings, [[8.0], [1.0], [3.0]])
