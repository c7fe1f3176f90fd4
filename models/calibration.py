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


def best_temperature(likelihood_K: np.ndarray) -> float:
    """Return the temperature of the least negative log likelihood.

    Args:
        likelihood_K: sums of `likelihood_at_temperatures` over all clips.
    """
    best = int(np.argmin(likelihood_K))
    position = float(best)
    if 0 < best < len(TEMPERATURES) - 1:
        before, at, after = likelihood_K[best - 1 : best + 2]
        curvature = before - 2 * at + after
        if curvature > 0:
            position += float(0.5 * (before - after) / curvature)
    return float(2.0 ** np.interp(position, np.arange(len(TEMPERATURES)), np.log2(TEMPERATURES)))
