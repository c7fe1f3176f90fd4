"""The learning rate over the steps of a training."""

from __future__ import annotations

import math


def cosine_factor(step: int, total_steps: int, warmup_steps: int, final: float = 0.01) -> float:
    """Multiple of the base rate at `step`: linear rise over `warmup_steps`, then half a cosine down to `final` (Loshchilov 2017)."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    through = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, through)))
