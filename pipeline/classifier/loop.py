"""Training loop of the classifier, from top to bottom: step, epoch, validation, and the loop of one worker.

for each epoch
    for each global batch    same order and same sampled augmentation on every rank
        train_step           slice of this rank: augment, MixUp, forward, backward, clip gradients, AdamW, EMA
    update_statistics        batch norm of mean weights, if stochastic weight averaging has begun
    evaluate_epoch           EMA weights on the validation clips, reduced over all ranks
    publish                  rank 0 writes model, checkpoint and log; a restart resumes from there

Shape suffixes: B batch, M mel bands, T frames, C classes.
"""

from __future__ import annotations

import math
import time
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from models.calibration import TEMPERATURES, best_temperature, likelihood_at_temperatures
from models.confusion import ClassCounts, scores
from models.device_batches import to_device
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.mean_weights import update_statistics
from pipeline.classifier.multi_label.label_mode import monitored_metric
from pipeline.classifier.multi_label.validation import evaluate_multi_label_epoch
from pipeline.classifier.prepare import prepare
from pipeline.classifier.saved_state import publish, restore, save_current_model, write_checkpoint
from pipeline.classifier.schedule import last_epoch, learning_rate
from pipeline.classifier.state import TrainState
from pipeline.classifier.step import plan_step, train_step
from pipeline.data.loader import batch_slices
from pipeline.data.split_warnings import unvalidated_classes
from pipeline.distributed.worker import watchdog
from pipeline.io.errors import UserError
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.epoch_position import EpochCheckpoints, PositionTensors, seed_epoch
from pipeline.training.epoch_results import complete_model
from pipeline.training.log import RunLog, open_run_log
from pipeline.training.placement import STREAM_NOTE
from pipeline.training.preemption import watch_preemption
from pipeline.training.run_folder import RunFolder
from pipeline.training.step_inputs import prefetch
from pipeline.training.world import EpochGenerator, World, exhaust

EVAL_BATCH_SIZE = 128


def train_epoch(
    state: TrainState, log: RunLog, checkpoints: EpochCheckpoints | None = None
) -> dict[str, float]:
    """Train for one epoch, or its rest; return the mean loss over all ranks and the throughput.

    Args:
        state: training state of this worker, at the start of an epoch or within it.
        log: log of the run.
        checkpoints: writes checkpoints within the epoch.

    Raises:
        UserError: if the loss is not finite.
    """
    config, epoch, device = state.config, state.epoch, state.world.device
    position, state.position = state.position, None
    first = position.steps if position else 0
    if checkpoints is not None:
        checkpoints.start_epoch(first)
    state.wrapped_model.train()
    # Dropout is the only randomness that differs between ranks.
    seed_epoch([config.seed, epoch, state.world.rank], position, device)
    batches = state.data.sample_batches(
        state.labels,
        state.split.train,
        config.sampling,
        np.random.default_rng([config.seed, epoch]),
        config.batch_size,
    )
    state.epoch_step = state.step - first
    start_time = time.perf_counter() - (position.seconds if position else 0.0)
    loss_sum = torch.zeros(1, device=device) if position is None else position.sums.to(device)
    planned = prefetch(
        lambda number: plan_step(state, batches[first + number], first + number),
        len(batches) - first,
        device,
    )
    with watchdog(state.world.timeout_s) as heartbeat, closing(planned):
        for steps, inputs in enumerate(planned, first + 1):
            loss_sum += train_step(state, inputs)
            log.step(epoch + 1, steps, len(batches), start_time)
            heartbeat()
            if checkpoints is not None:
                checkpoints.after_step(steps, loss_sum, time.perf_counter() - start_time)
        loss = float(state.world.sum(loss_sum)) / len(batches)
    _check_finite("loss", loss, state)
    seconds = time.perf_counter() - start_time
    return {
        "train_loss": loss,
        "seconds": seconds,
        "samples_per_second": len(state.split.train) / seconds,
    }


@torch.inference_mode()
def evaluate_epoch(state: TrainState) -> dict[str, float]:
    """Return loss, accuracy, macro-F1 and best temperature of the EMA weights on the validation clips.

    Those of a multi-label run are loss, macro average precision, macro-F1 and best temperature.

    Raises:
        UserError: if the loss is not finite.
    """
    clips = state.split.val
    if len(clips) == 0:
        return {}
    if state.multi_label is not None:
        multi_label_metrics = evaluate_multi_label_epoch(state, EVAL_BATCH_SIZE)
        _check_finite("validation loss", multi_label_metrics["val_loss"], state)
        return multi_label_metrics
    state.world.broadcast([value for value in state.ema.model.buffers() if value.is_floating_point()])
    num_classes = len(state.dataset.class_names)
    local_clips = state.data.local_rows(state.world, clips)
    # Correct clips and predictions of each class: all pairs of thousands of classes would take 0.2 GB.
    counts_2C = torch.zeros(2, num_classes, dtype=torch.float64, device=state.world.device)
    likelihood_K = torch.zeros(len(TEMPERATURES), dtype=torch.float64, device=state.world.device)
    loss_sum = torch.zeros(1, dtype=torch.float64, device=state.world.device)
    for batch_slice in batch_slices(len(local_clips), EVAL_BATCH_SIZE):
        batch = local_clips[batch_slice]
        with state.autocast():
            logits_BC = state.ema.model(state.loader(batch).float())
        logits_BC = logits_BC.float()
        label_B = to_device(state.labels[batch], loss_sum.device)
        loss_sum += F.cross_entropy(logits_BC, label_B, reduction="sum")
        likelihood_K += likelihood_at_temperatures(logits_BC, label_B, len(clips))
        predicted_B = logits_BC.argmax(1)
        counts_2C[0].index_add_(0, label_B, (predicted_B == label_B).double())
        counts_2C[1].index_add_(0, predicted_B, torch.ones_like(predicted_B, dtype=torch.float64))
    sums = state.world.sum(torch.cat([counts_2C.flatten(), likelihood_K, loss_sum])).cpu()
    counts, likelihoods = sums[:-1].split([2 * num_classes, len(TEMPERATURES)])
    correct, predicted = counts.long().view(2, num_classes).numpy()
    support = np.bincount(state.labels[clips], minlength=num_classes)
    metrics = scores(ClassCounts(correct, support, predicted))
    loss = float(sums[-1]) / len(clips)
    _check_finite("validation loss", loss, state)
    return {
        "val_loss": loss,
        "val_accuracy": metrics["accuracy"],
        "val_macro_f1": metrics["macro_f1"],
        "temperature": best_temperature(likelihoods.numpy()),
    }


def _check_finite(name: str, loss: float, state: TrainState) -> None:
    """Raise `UserError` if a loss of the current epoch is not finite: no later epoch would be better."""
    if math.isfinite(loss):
        return
    kept = f"; epoch {state.best_epoch} is kept in {state.config.run}" if state.best_epoch else ""
    raise UserError(
        f"the {name} is {loss} in epoch {state.epoch + 1}: "
        f"try a lower --learning-rate (now {state.config.learning_rate:g}) in another --run{kept}"
    )


def train_loop(config: TrainClassifierConfig, world: World, owner: str | None = None) -> dict[str, Any]:
    """Run `train_epochs` to its end; return its result."""
    return exhaust(train_epochs(config, world, owner), world)


def train_epochs(config: TrainClassifierConfig, world: World, owner: str | None = None) -> EpochGenerator:
    """Train as one of the workers, from the newest checkpoint of the run if there is one.

    Yields the metrics of each epoch, once its checkpoint is written, and returns those of the best epoch.
    Stops before its next write if `owner` is no longer the owner of the run.

    Raises:
        UserError: on every rank, with the same text.
    """
    state = prepare(config, world)
    run, checkpoints = RunFolder(config.run), Checkpoints(config.run)
    checkpoint = checkpoints.read(world)
    if checkpoint is not None:
        restore(state, *checkpoint)
        complete_model(state, run, owner, state.best_score.clear, partial(save_current_model, state))
    tensorboard = config.logs_to_tensorboard
    log = world.run_on_all_ranks(
        partial(open_run_log, run, world.rank == 0, state.history, config.epochs, tensorboard)
    )
    with closing(log), watch_preemption() as is_preempted:
        if state.data.stream is not None:
            log.warn(STREAM_NOTE)
        if state.initial_weights and not state.epoch:
            log.note(state.initial_weights)
        save = partial(save_within_epoch, state, checkpoints, owner)
        epoch_checkpoints = EpochCheckpoints(world, config.checkpoint_minutes, is_preempted, save)
        while state.epoch < last_epoch(state) and not config.stops_early(state.epoch, state.best_epoch):
            metrics = train_epoch(state, log, epoch_checkpoints)
            update_statistics(state)
            metrics |= evaluate_epoch(state)
            state.epoch += 1
            improved = update_best(state, metrics)
            epoch_metrics = {
                "epoch": state.epoch,
                **metrics,
                "learning_rate": learning_rate(state, state.step - 1),
                "best": improved,
            }
            state.history.append(epoch_metrics)
            world.run_on_all_ranks(
                partial(publish, state, checkpoints, log, improved, owner) if world.rank == 0 else _noop
            )
            yield epoch_metrics
    return {
        "best_epoch": state.best_epoch,
        "epochs": state.epoch,
        "stopped_early": state.epoch < config.epochs,
        **state.history[state.best_epoch - 1],
        "unvalidated_classes": unvalidated_classes(state.dataset, state.split),
    }


def save_within_epoch(
    state: TrainState, checkpoints: Checkpoints, owner: str | None, position: PositionTensors
) -> None:
    """Write a checkpoint within an epoch.

    Raises:
        UserError: another process has taken over the run, or the checkpoint cannot be written.
    """
    RunFolder(state.config.run).check_owner(owner)
    write_checkpoint(state, checkpoints, position)


def update_best(state: TrainState, metrics: dict[str, float]) -> bool:
    """Record the epoch if it is the best so far; return whether it is.

    The best epoch has the best monitored metric, ties broken by the lower loss. Without validation or with
    `keep: last` the newest epoch is always the best.
    """
    if metrics.get("val_loss") is None or state.config.keep == "last":
        state.best_epoch = state.epoch
        return True
    monitor = monitored_metric(state.config, state.multi_label is not None)
    sign = -1.0 if monitor == "val_loss" else 1.0
    score = [sign * metrics[monitor], -metrics["val_loss"]]
    if state.best_score and score <= state.best_score:
        return False
    state.best_score, state.best_epoch = score, state.epoch
    return True


def _noop() -> None:
    pass
