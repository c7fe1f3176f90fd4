"""Temperature scaling (Guo et al. 2017): one factor of the logits makes probabilities as high as accuracy.

It is fitted during validation without keeping any logits: the likelihood is computed at fixed temperatures,
and its minimum is that of a parabola through the best of them. Predicted classes do not change.

Shape suffixes: B batch, C classes, K temperatures.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# From 1/8 to 8, four for each factor of two.
TEMPERATURES = 2.0 ** np.linspace(-3, 3, 25)


def likelihood_at_temperatures(logits_BC: Tensor, label_B: Tensor, clips: int) -> Tensor:
    """Return the negative log likelihood at each temperature, summed over a batch, float64 `[shape=(K,)]`.

    Labels are smoothed by 1 / (clips + 2) (Platt 1999): few clips that are all correct are no proof of
    probabilities of 1.

    Args:
        logits_BC: logits, float32.
        label_B: class indices, int64.
        clips: number of clips of all batches.
    """
    smoothing = 1 / (clips + 2)
    sums = [
        F.cross_entropy(logits_BC / t, label_B, reduction="sum", label_smoothing=smoothing)
        for t in TEMPERATURES
    ]
    return torch.stack(sums).double()


def binary_likelihood_at_temperatures(
    logits_BC: Tensor, target_BC: Tensor, present_C: Tensor | None = None, clips: int | None = None
) -> Tensor:
    """Return the negative log likelihood at each temperature, summed over a batch, float64 `[shape=(K,)]`.

    Targets are smoothed class by class (Platt 1999): (n + 1) / (n + 2) for the n clips with the class, and
    1 / (m + 2) for the m clips without.

    Args:
        logits_BC: logits, each class with a sigmoid of its own, float32.
        target_BC: which classes each clip has, float32.
        present_C: number of clips with each class in all batches (default: in this one).
        clips: number of clips of all batches (default: of this one).
    """
    present_C = target_BC.sum(dim=0) if present_C is None else present_C
    absent_C = (len(target_BC) if clips is None else clips) - present_C
    low_C, high_C = 1 / (absent_C + 2), (present_C + 1) / (present_C + 2)
    smooth_BC = torch.where(target_BC > 0.5, high_C, low_C)
    sums = [
        F.binary_cross_entropy_with_logits(logits_BC / t, smooth_BC, reduction="sum") for t in TEMPERATURES
    ]
    return torch.stack(sums).double()


def best_temperature(likelihood_K: np.ndarray) -> float:
    """Return the temperature of the least negative log likelihood.

    Args:
        likelihood_K: sums of `likelihood_at_temperatures` over all clips, or the binary likelihood.
    """
    best = int(np.argmin(likelihood_K))
    position = float(best)
    if 0 < best < len(TEMPERATURES) - 1:
        before, at, after = likelihood_K[best - 1 : best + 2]
        curvature = before - 2 * at + after
        if curvature > 0:
            position += float(0.5 * (before - after) / curvature)
    return float(2.0 ** np.interp(position, np.arange(len(TEMPERATURES)), np.log2(TEMPERATURES)))
