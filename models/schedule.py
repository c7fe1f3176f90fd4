"""Learning rate schedule."""

from __future__ import annotations

import math


def cosine_factor(step: int, total_steps: int, warmup_steps: int, final: float = 0.01) -> float:
    """Return the learning rate at `step` as a factor of the peak.

    Linear warmup over `warmup_steps`, then cosine decay to the factor `final` (Loshchilov and Hutter 2017).
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
