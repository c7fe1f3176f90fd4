"""Metrics of ranking, and top-5 accuracy, in cases that can be computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from models.metrics import MAX_RANKED_CLASSES, classification_metrics, score_clips
from models.ranking_metrics import ranking_metrics


def test_macro_means_over_classes_with_clips() -> None:
    probabilities = np.array([[0.9, 0.1, 0.0], [0.4, 0.6, 0.0], [0.2, 0.8, 0.0], [0.5, 0.5, 0.0]])
    metrics = ranking_metrics(probabilities, np.array([0, 0, 1, 1]))
    # Of the four pairs of a clip of each class, three are in the right order.
    assert metrics["roc_auc"] == pytest.approx(0.75)
    # Class 0: ranks 1 and 3 are its clips; class 1: ranks 1 and 3.
    assert metrics["average_precision"] == pytest.approx((1 + 2 / 3) / 2)


def test_undefined_with_a_single_class() -> None:
    assert ranking_metrics(np.array([[0.9, 0.1]]), np.array([0])) == {
        "roc_auc": None,
        "average_precision": None,
    }


def test_top5_counts_higher_classes() -> None:
    probabilities = np.full((2, 10), 0.1) + np.arange(10) * 0.001
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    metrics = classification_metrics(score_clips(probabilities, np.array([5, 4])), "abcdefghij")
    assert metrics["top5_accuracy"] == 0.5
    assert classification_metrics(score_clips(np.eye(5), np.arange(5)), "abcde")["top5_accuracy"] is None


def test_probabilities_of_many_classes_are_not_kept() -> None:
    classes = MAX_RANKED_CLASSES + 1
    scores = score_clips(np.full((3, classes), 1 / classes), np.arange(3))
    assert scores.probabilities.shape == (3, 0)
    metrics = classification_metrics(scores, [str(i) for i in range(classes)])
    assert metrics["roc_auc"] is None and metrics["average_precision"] is None
