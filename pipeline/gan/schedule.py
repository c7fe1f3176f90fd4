"""Weights of losses and factor of the learning rates in each step of the GAN."""

from __future__ import annotations

from models.schedule import cosine_factor
from pipeline.gan.state import GanTrainState


def class_weight(state: GanTrainState, step: int) -> float:
    """Return the weight of the classification loss in a step."""
    return state.config.class_weight * _linear_decay(state, step, state.config.class_final_factor)


def penalty_weight(state: GanTrainState, step: int) -> float:
    """Return the weight of the gradient penalties in a step that has them."""
    config = state.config
    return (
        config.penalty_weight
        * _linear_decay(state, step, config.penalty_final_factor)
        * config.penalty_interval
    )


def _linear_decay(state: GanTrainState, step: int, final: float) -> float:
    """Return a factor that decays over all steps from 1 to `final`."""
    return final + (1 - final) * (1 - min(1.0, step / state.total_steps))


def learning_rate_factor(state: GanTrainState, step: int) -> float:
    """Return the factor of both learning rates in a step: linear warmup, then cosine decay."""
    config, total_steps = state.config, state.total_steps
    warmup_steps = min(20, total_steps // 5) if config.warmup_steps is None else config.warmup_steps
    return cosine_factor(step, total_steps, warmup_steps, config.final_lr_factor) * state.lr_scale
