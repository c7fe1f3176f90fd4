"""Loss of a classifier with a sigmoid per class: smoothed, weighted and focal binary cross-entropy.

Shape suffixes: B batch, C classes.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# Limit of the weight of a rare class's clips, and its reciprocal that of a frequent one: a class of one in a
# thousand clips would otherwise have gradients a thousand times those of the others.
MAX_POSITIVE_WEIGHT = 10.0
# Below this difference of target and probability, the focal factor is constant: its slope may be infinite.
MIN_DIFFERENCE = 1e-6


def smooth_targets(target_BC: Tensor, prior_C: Tensor, smoothing: float) -> Tensor:
    """Return targets between whether a class is present and how frequent it is, `[shape=(B, C)]`.

    The label smoothing of Szegedy et al. (2016), (1 - smoothing) * target + smoothing * prior, with the
    frequency of each class as its prior distribution: the mean of the targets stays the frequency. With 1/2
    instead, the target of an absent class would be far above the frequency of most.
    """
    return torch.lerp(target_BC, prior_C.expand_as(target_BC), smoothing)


def multi_label_loss(
    logits_BC: Tensor,
    target_BC: Tensor,
    positive_weight_C: Tensor | None = None,
    focal_gamma: float = 0.0,
) -> Tensor:
    """Return the binary cross-entropy of each clip, its mean over classes `[shape=(B,)]`.

    Args:
        logits_BC: logits, float32.
        target_BC: probability with which each class is present.
        positive_weight_C: factor of the loss of present classes (default: 1).
        focal_gamma: exponent of the focal loss (Lin et al. 2017), which reduces the loss of classes that are
            predicted well; 0 is cross-entropy. The factor is |target - probability| ** focal_gamma (Li et al.
            2020), that of Lin et al. for targets 0 and 1, so that the minimum remains at the target.
    """
    loss_BC = F.binary_cross_entropy_with_logits(
        logits_BC, target_BC, reduction="none", pos_weight=positive_weight_C
    )
    if focal_gamma:
        difference_BC = (target_BC - logits_BC.sigmoid()).abs()
        loss_BC = loss_BC * difference_BC.clamp(min=MIN_DIFFERENCE) ** focal_gamma
    return loss_BC.mean(dim=1)


def positive_weights(counts: np.ndarray, rows: int) -> np.ndarray:
    """Return the ratio of clips without and with each class, float32 `[shape=(C,)]`.

    With it, present and absent clips of a class have equal weight, up to `MAX_POSITIVE_WEIGHT`; a class
    without clips has that of one with a single clip.

    Args:
        counts: number of clips with each class `[shape=(C,)]`.
        rows: number of clips.
    """
    ratio = (rows - counts) / np.maximum(counts, 1)
    return np.clip(ratio, 1 / MAX_POSITIVE_WEIGHT, MAX_POSITIVE_WEIGHT).astype(np.float32)
