"""Learning rate schedules."""

from __future__ import annotations

import math
from collections.abc import Sequence

# Relative decrease of a loss that counts as an improvement, where a plateau is looked for: smaller ones come
# with the decay of the learning rate in any case, and sooner.
MIN_IMPROVEMENT = 0.05


def cosine_factor(step: int, total_steps: int, warmup_steps: int, final: float = 0.01) -> float:
    """Return the learning rate at `step` as a factor of the peak.

    Linear warmup over `warmup_steps`, then cosine decay to the factor `final` (Loshchilov and Hutter 2017).
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def decay_start(losses: Sequence[float], patience: int, epochs: int, warmup: int = 0) -> int:
    """Return the number of epochs after which a constant learning rate starts to decay: at the plateau.

    That is when the loss has not improved for `patience` epochs after the warmup, at the latest after half of
    all epochs, or the warmup if that is longer.

    Args:
        losses: validation loss of each finished epoch; none without validation, for the latest start.
        patience: number of epochs without an improvement by at least `MIN_IMPROVEMENT`.
        epochs: maximum number of epochs.
        warmup: number of epochs in which the learning rate still rises.
    """
    latest = max(epochs // 2, warmup)
    best, best_epoch = min(losses[:warmup], default=math.inf), warmup
    for epoch, loss in enumerate(losses[warmup:latest], warmup + 1):
        if loss <= best * (1 - MIN_IMPROVEMENT):
            best, best_epoch = loss, epoch
        elif epoch - best_epoch >= patience:
            return epoch
    return latest


def decay_end(start: int, epochs: int) -> int:
    """Return the last epoch of a decay that starts after `start` epochs: it takes one more than these."""
    return min(epochs, 2 * start + 1)
