"""Learning rate of each step, and the last epoch, which may depend on the validation losses.

Both are functions of the finished epochs alone, so that a resumed training continues as if it had not been
interrupted.
"""

from __future__ import annotations

import math

from models.schedule import cosine_factor, decay_end, decay_start
from pipeline.classifier.config import PLATEAU_EPOCHS, PLATEAU_STEPS
from pipeline.classifier.state import TrainState


def learning_rate(state: TrainState, step: int) -> float:
    """Return the learning rate of a step of the current epoch, counted from 0 at the start of training.

    Linear warmup, then cosine decay, constant while weights are averaged; or constant until a plateau of the
    validation loss, then cosine decay.
    """
    config, steps_per_epoch = state.config, state.steps_per_epoch
    warmup_steps = round(config.num_warmup_epochs * steps_per_epoch)
    if state.swa_start is not None:
        factor = cosine_factor(step, state.swa_start, warmup_steps, config.swa_lr_factor)
    elif config.schedule == "cosine":
        factor = cosine_factor(step, config.epochs * steps_per_epoch, warmup_steps)
    else:
        start = _decay_start(state)
        first, last = start * steps_per_epoch, last_epoch(state) * steps_per_epoch
        if step < first:
            factor = cosine_factor(step, first, warmup_steps, final=1.0)
        else:
            factor = cosine_factor(step - first, last - first, 0)
    return config.learning_rate * factor


def last_epoch(state: TrainState) -> int:
    """Return the last epoch, from 1, as far as known from the finished ones; it may only become earlier."""
    epochs = state.config.epochs
    return epochs if state.config.schedule == "cosine" else decay_end(_decay_start(state), epochs)


def _decay_start(state: TrainState) -> int:
    losses = [metrics["val_loss"] for metrics in state.history if "val_loss" in metrics]
    patience = state.config.patience or max(PLATEAU_EPOCHS, math.ceil(PLATEAU_STEPS / state.steps_per_epoch))
    return decay_start(losses, patience, state.config.epochs, math.ceil(state.config.num_warmup_epochs))
