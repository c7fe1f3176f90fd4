"""What a training run of the classifier saves, its model and checkpoints, and how it continues from them."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from pipeline.classifier.state import TrainState
from pipeline.io.errors import report_os_errors
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.epoch_position import PositionTensors, read_position
from pipeline.training.epoch_results import publish_epoch
from pipeline.training.log import RunLog
from pipeline.training.model_file import ClassifierMetadata, save_model
from pipeline.training.optim import load_optimizer, optimizer_tensors
from pipeline.training.run_folder import RunFolder


def publish(
    state: TrainState, checkpoints: Checkpoints, log: RunLog, improved: bool, owner: str | None
) -> None:
    """Write checkpoint, model if it improved, and log, as `publish_epoch`."""
    publish_epoch(
        RunFolder(state.config.run),
        owner,
        partial(write_checkpoint, state, checkpoints),
        partial(save_current_model, state) if improved else None,
        partial(log.epoch, state.history),
    )


def write_checkpoint(
    state: TrainState,
    checkpoints: Checkpoints,
    position: PositionTensors | None = None,
) -> None:
    """Write the state; within an epoch with the tensors and values of `position_tensors`.

    Raises:
        UserError: it cannot be written.
    """
    tensors = {
        "model": state.model.state_dict(),
        "ema": state.ema.model.state_dict(),
        "optimizer": optimizer_tensors(state.model, state.optimizer),
    }
    values = {
        "step": state.step,
        "epoch": state.epoch,
        "best_score": state.best_score,
        "best_epoch": state.best_epoch,
        "thresholds": state.thresholds,
        "ema_step": state.ema.step,
        "grad_scaler": state.scaler.state_dict(),
        "history": state.history,
    }
    with report_os_errors("writing to", state.config.run):
        checkpoints.write(state.epoch, tensors, values, position)


def restore(state: TrainState, tensors: dict[str, dict[str, Tensor]], values: dict[str, Any]) -> None:
    """Restore a state from the tensors and values of a checkpoint, in place."""
    state.model.load_state_dict(tensors["model"])
    state.ema.model.load_state_dict(tensors["ema"])
    load_optimizer(state.model, state.optimizer, tensors["optimizer"])
    state.step, state.epoch, state.ema.step = values["step"], values["epoch"], values["ema_step"]
    state.best_score, state.best_epoch = values["best_score"], values["best_epoch"]
    state.history = values["history"]
    if values.get("thresholds"):
        state.thresholds = tuple(values["thresholds"])
    if values.get("grad_scaler"):
        state.scaler.load_state_dict(values["grad_scaler"])
    state.position = read_position(state.world, tensors, values)
    if state.position is None:
        # The checkpoint of another trial (PBT) may have other steps in an epoch, and rates follow the epochs.
        state.step = state.ema.step = state.epoch * state.steps_per_epoch


def save_current_model(state: TrainState) -> None:
    """Write the EMA weights of the last epoch, with the metadata that inference needs."""
    class_names, train = state.dataset.class_names, state.split.train
    if state.multi_label is None:
        counts = np.bincount(state.labels[train], minlength=len(class_names))
    else:
        counts = state.multi_label.classes.counts(train)
    training = {
        **state.history[-1],
        "rows": len(train),
        "class_counts": dict(zip(class_names, counts.tolist(), strict=True)),
        "config": state.config.identity(),
    }
    metadata = ClassifierMetadata(
        model=state.config.model,
        features=state.dataset.features,
        class_names=class_names,
        training=training,
        temperature=state.history[-1].get("temperature", 1.0),
        multi_label=state.multi_label is not None,
        thresholds=state.thresholds,
    )
    save_model(state.config.run, state.ema.model, metadata)
