"""Metrics of how classes rank clips: macro means over the classes, each against all others."""

from __future__ import annotations

import numpy as np


def ranking_metrics(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float | None]:
    """Compute `roc_auc` (area under the ROC curve) and `average_precision`, means over classes.

    Classes without clips, or with all clips, are left out; both are None if no class is left.

    Args:
        probabilities: predicted class probabilities `[shape=(N, C)]`.
        labels: true classes `[shape=(N,)]`.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score  # slow to import

    areas, precisions = [], []
    for label in np.unique(labels):
        is_label = labels == label
        if is_label.all():
            continue
        areas.append(roc_auc_score(is_label, probabilities[:, label]))
        precisions.append(average_precision_score(is_label, probabilities[:, label]))
    if not areas:
        return {"roc_auc": None, "average_precision": None}
    return {"roc_auc": float(np.mean(areas)), "average_precision": float(np.mean(precisions))}
