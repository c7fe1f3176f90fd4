"""Collapse detection: decide from the metrics of each epoch whether the GAN has stopped learning.

In a collapse, the generator produces one clip per class, gradients explode, or a value is not finite. It is
not visible in loss curves, and has been reported for small conditional datasets (Karras et al. 2021).
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

# Within-class diversity, as a fraction of that of real clips, below which a class consists of a single clip.
MIN_DIVERSITY = 0.1
# Diversity is also low at the start of training: only a drop after at least this value counts as a collapse.
DIVERSE_THRESHOLD = 0.25
# A mean gradient norm this many times its typical value is an explosion.
MAX_GRAD_NORM_GROWTH = 100.0
# Norms below this are no explosion, however small typical ones are: they are next to nothing where all clips
# of a dataset are equal.
MIN_EXPLODING_GRAD_NORM = 1.0
# Recent epochs whose median is the typical gradient norm.
HISTORY_EPOCHS = 10
# A discriminator with a mean score gap above this leaves the generator without a useful gradient.
MAX_SCORE_GAP = 200.0


def detect_collapse(metrics: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> str | None:
    """Return why an epoch counts as collapsed, or None if it is healthy.

    Args:
        metrics: metrics of the epoch: `discriminator_loss, generator_loss, real_score, fake_score`,
            `discriminator_grad_norm, generator_grad_norm` and `diversity` (of the fixed samples, relative
            to that of real clips; None if those have no variety).
        history: metrics of the good epochs before it.
    """
    for name, value in metrics.items():
        if isinstance(value, numbers.Real) and not math.isfinite(value):
            return f"{name.replace('_', ' ')} is {value}"
    gap = metrics["real_score"] - metrics["fake_score"]
    if abs(gap) > MAX_SCORE_GAP:
        return f"score gap between real and generated clips is {gap:.0f}"
    recent = history[-HISTORY_EPOCHS:]
    for network in ("discriminator", "generator"):
        name = f"{network}_grad_norm"
        typical = sorted(epoch[name] for epoch in recent)[len(recent) // 2] if recent else None
        limit = max(MAX_GRAD_NORM_GROWTH * (typical or 0.0), MIN_EXPLODING_GRAD_NORM)
        if typical and metrics[name] > limit:
            return f"{network} gradient norm is {metrics[name]:.3g} (typical: {typical:.3g})"
    max_diversity = max((epoch["diversity"] or 0.0 for epoch in history), default=0.0)
    diversity = metrics["diversity"]
    if diversity is not None and diversity < MIN_DIVERSITY and max_diversity >= DIVERSE_THRESHOLD:
        return f"within-class diversity fell to {diversity:.1%} of real clips (from {max_diversity:.1%})"
    return None
