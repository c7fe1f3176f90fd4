"""The collapse alarm: tells a GAN that has stopped learning from one that has not, from a few numbers of each epoch.

A collapse wastes hours and shows in no loss curve (Karras et al. 2021 report it of small conditional sets): the generator draws
one clip a class, or gradients blow up, or a value is no number.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

# The diversity of drawn clips within a class, as part of that of the real ones, below which the generator draws one clip only.
MIN_DIVERSITY = 0.1
# It is small at the start as well: only a fall from this is an alarm.
DIVERSE_THRESHOLD = 0.25
# A gradient so many times its usual norm, in an epoch's mean, is an explosion.
MAX_GRAD_NORM_GROWTH = 100.0
# Epochs that say what is usual.
HISTORY_EPOCHS = 10
# A discriminator this far ahead, on average over an epoch, gives the generator nothing to go by.
MAX_SCORE_GAP = 200.0


def detect_collapse(line: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> str | None:
    """What is wrong with an epoch, in words, or none.

    Args:
        line: the epoch's `discriminator_loss, generator_loss, real_score, fake_score, discriminator_grad_norm, generator_grad_norm`
            and `diversity` (of a fixed batch, as part of the real clips').
        history: the good epochs before it.
    """
    for name, value in line.items():
        if isinstance(value, numbers.Real) and not math.isfinite(value):
            return f"{name.replace('_', ' ')} is {value}"
    gap = line["real_score"] - line["fake_score"]
    if abs(gap) > MAX_SCORE_GAP:
        return f"the scores of real and drawn clips lie {gap:.0f} apart"
    recent = history[-HISTORY_EPOCHS:]
    for name in ("discriminator_grad_norm", "generator_grad_norm"):
        usual = sorted(old[name] for old in recent)[len(recent) // 2] if recent else None
        if usual and line[name] > MAX_GRAD_NORM_GROWTH * usual:
            return f"the {name.replace('_grad_norm', '')}'s gradient has a norm of {line[name]:.3g}, usual is {usual:.3g}"
    most = max((old["diversity"] for old in history), default=0.0)
    if line["diversity"] < MIN_DIVERSITY and most >= DIVERSE_THRESHOLD:
        return f"drawn clips of a class differ by {line['diversity']:.1%} of what real ones do, after {most:.1%} before"
    return None
