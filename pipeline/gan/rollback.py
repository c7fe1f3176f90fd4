"""Diversity of the samples, which shows a collapse, and the return to the last good checkpoint."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from models.gan_metrics import relative_diversity
from pipeline.gan.state import GanTrainState, reset, restore
from pipeline.io.errors import UserError
from pipeline.training.log import RunLog


def sample_diversity(state: GanTrainState) -> float | None:
    """Return the within-class diversity of the fixed samples as a fraction of that of real clips.

    Rank 0 computes it, so that all ranks have the same value; None if no class of real clips has variety.
    """
    # The same on all ranks, so that all take part in the sum, or none does.
    if relative_diversity(state.real_diversity, state.real_diversity) is None:
        return None
    value = 0.0
    if state.world.rank == 0:
        generated = state.snapshots.diversity(state.ema.model, state.world.device)
        value = relative_diversity(generated, state.real_diversity) or 0.0
    return float(state.world.sum(torch.tensor(value, dtype=torch.float64, device=state.world.device)))


def rollback(
    state: GanTrainState,
    reason: str,
    checkpoint: tuple[dict[str, dict[str, Tensor]], dict[str, Any]] | None,
    log: RunLog,
) -> None:
    """Set the state to that of the last good checkpoint, or else the initial one, at half the learning rates.

    The number of rollbacks is part of every seed, so the repeated epochs differ from the collapsed ones.

    Raises:
        UserError: after more than `max_rollbacks` rollbacks.
    """
    config = state.config
    rollbacks, lr_scale = state.rollbacks + 1, state.lr_scale / 2
    description = f"epoch {state.epoch + 1} collapsed ({reason})"
    if rollbacks > config.max_rollbacks:
        best = f"; the best model so far is in {config.run}" if state.best_epoch else ""
        raise UserError(
            f"{description}; exceeded --max-rollbacks {config.max_rollbacks}: lower --generator-lr and "
            f"--discriminator-lr, or raise --penalty-weight{best}"
        )
    reset(state)
    if checkpoint is not None:
        restore(state, *checkpoint)
    state.rollbacks, state.lr_scale, state.pending_collapse = rollbacks, lr_scale, description
    log.warn(
        f"{description}; rolled back to epoch {state.epoch}, learning rates divided by {1 / lr_scale:.0f}"
    )


def pop_collapse(state: GanTrainState) -> dict[str, str]:
    """Return the entry that logs a rollback with the first good epoch after it."""
    description, state.pending_collapse = state.pending_collapse, ""
    return {"collapse": description} if description else {}
