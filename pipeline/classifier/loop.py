"""Training loop of the classifier, from top to bottom: step, epoch, validation, and the loop of one worker.

for each epoch
    for each global batch    same order and same sampled augmentation on every rank
        train_step           slice of this rank: augment, MixUp, forward, backward, clip gradients, AdamW, EMA
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
from torch import Tensor, nn

from models.batch_augment import (
    BatchAugmentation,
    mask,
    mix,
    mix_targets,
    roll_and_gain,
    sample_batch_augmentation,
)
from models.metrics import confusion_matrix, scores
from models.schedule import cosine_factor
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.state import TrainState, prepare, publish, restore
from pipeline.data.loader import batch_slices, epoch_batches, epoch_order
from pipeline.data.split_warnings import unvalidated_classes
from pipeline.distributed.worker import watchdog
from pipeline.io.errors import UserError
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.log import RunLog, open_run_log
from pipeline.training.run_folder import RunFolder
from pipeline.training.world import EpochGenerator, World, exhaust, rank_slice

EVAL_BATCH_SIZE = 128


def make_batch(
    state: TrainState, batch: np.ndarray, augmentation: BatchAugmentation
) -> tuple[Tensor, Tensor]:
    """Load and augment this rank's slice of a global batch.

    Args:
        state: training state.
        batch: row indices of the global batch.
        augmentation: sampled parameters of the global batch.

    Returns:
        Spectrograms in dB `[shape=(B, n_mels, num_frames)]` and target probabilities `[shape=(B, C)]`.
    """
    local_slice = rank_slice(len(batch), state.world)
    params = augmentation[local_slice]
    mel_BMT = roll_and_gain(state.loader(batch[local_slice]), params.roll, params.gain_db)
    target_BC = _one_hot(state, batch[local_slice])
    if (params.lam < 1).any():
        partner = params.partner  # indexes the global batch
        if state.world.size == 1:
            partner_BMT = mel_BMT[torch.from_numpy(partner)]
        else:
            partner_BMT = roll_and_gain(
                state.loader(batch[partner]), augmentation.roll[partner], augmentation.gain_db[partner]
            )
        mel_BMT = mix(mel_BMT, partner_BMT, params.lam)
        target_BC = mix_targets(target_BC, _one_hot(state, batch[partner]), params.lam)
    return mask(mel_BMT, params, state.model.mel_mean_M), target_BC


def train_step(state: TrainState, batch: np.ndarray, augmentation: BatchAugmentation) -> Tensor:
    """Train on one global batch; return this rank's contribution to its mean loss, a scalar on the device."""
    config = state.config
    mel_BMT, target_BC = make_batch(state, batch, augmentation)
    for group in state.optimizer.param_groups:
        group["lr"] = config.learning_rate * cosine_factor(
            state.step,
            config.epochs * state.steps_per_epoch,
            round(config.warmup_epochs * state.steps_per_epoch),
        )
    with state.autocast():
        logits_BC = state.wrapped_model(mel_BMT)
    loss_B = F.cross_entropy(
        logits_BC.float(),
        target_BC,
        weight=state.class_weight_C,
        label_smoothing=config.label_smoothing,
        reduction="none",
    )
    # DDP averages gradients over ranks: scale the loss so that the average is the gradient of the mean over
    # the global batch, also if the slices differ by a row.
    loss = loss_B.sum() * (state.world.size / len(batch))
    loss.backward()
    nn.utils.clip_grad_norm_(state.model.parameters(), config.max_grad_norm)
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)
    state.ema.update(state.model)
    state.step += 1
    return loss.detach() / state.world.size


def train_epoch(state: TrainState, log: RunLog) -> dict[str, float]:
    """Train for one epoch; return the mean loss over all ranks and the throughput.

    Raises:
        UserError: if the loss is not finite.
    """
    config, epoch = state.config, state.epoch
    state.wrapped_model.train()
    # Dropout is the only randomness that differs between ranks.
    dropout_seed = np.random.SeedSequence([config.seed, epoch, state.world.rank])
    torch.manual_seed(int(dropout_seed.generate_state(1)[0]))
    order = epoch_order(
        state.labels, state.split.train, config.sampling, np.random.default_rng([config.seed, epoch])
    )
    batches = epoch_batches(order, config.batch_size)
    start_time = time.perf_counter()
    loss_sum = torch.zeros((), device=state.world.device)
    with watchdog(state.world.timeout_s) as heartbeat:
        for number, batch in enumerate(batches):
            rng = np.random.default_rng([config.seed, epoch, number])
            augmentation = sample_batch_augmentation(
                rng, len(batch), config.mixup, config.spec_augment, config.augmentation_strength
            )
            loss_sum += train_step(state, batch, augmentation)
            log.step(epoch + 1, number + 1, len(batches), start_time)
            heartbeat()
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
    """Return loss, accuracy and macro-F1 of the EMA weights on the validation clips, over all ranks.

    Raises:
        UserError: if the loss is not finite.
    """
    clips = state.split.val
    if len(clips) == 0:
        return {}
    state.world.broadcast([value for value in state.ema.model.buffers() if value.is_floating_point()])
    num_classes = len(state.dataset.class_names)
    local_clips = clips[rank_slice(len(clips), state.world)]
    confusion = torch.zeros(num_classes, num_classes, dtype=torch.float64)
    loss_sum = 0.0
    for batch_slice in batch_slices(len(local_clips), EVAL_BATCH_SIZE):
        batch = local_clips[batch_slice]
        with state.autocast():
            logits_BC = state.ema.model(state.loader(batch).float())
        labels_B = torch.from_numpy(state.labels[batch])
        loss_sum += float(F.cross_entropy(logits_BC.float().cpu(), labels_B, reduction="sum"))
        confusion += torch.from_numpy(
            confusion_matrix(state.labels[batch], logits_BC.argmax(1).cpu().numpy(), num_classes)
        )
    local_sums = torch.cat([confusion.reshape(-1), torch.tensor([loss_sum], dtype=torch.float64)])
    sums = state.world.sum(local_sums.to(state.world.device)).cpu()
    metrics = scores(sums[:-1].reshape(num_classes, num_classes).long().numpy())
    loss = float(sums[-1]) / len(clips)
    _check_finite("validation loss", loss, state)
    return {
        "val_loss": loss,
        "val_accuracy": metrics["accuracy"],
        "val_macro_f1": metrics["macro_f1"],
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
    return exhaust(train_epochs(config, world, owner))


def train_epochs(config: TrainClassifierConfig, world: World, owner: str | None = None) -> EpochGenerator:
    """Train as one of the workers, from the newest checkpoint of the run if there is one.

    Yields the metrics of each epoch, once its checkpoint is written, and returns those of the best epoch.
    Stops before its next write if `owner` is no longer the owner of the run.

    Raises:
        UserError: on every rank, with the same text.
    """
    state = prepare(config, world)
    run, checkpoints = RunFolder(config.run), Checkpoints(config.run)
    checkpoint = world.run_on_all_ranks(checkpoints.read)
    if checkpoint is not None:
        restore(state, *checkpoint)
    with closing(
        world.run_on_all_ranks(partial(open_run_log, run, world.rank == 0, state.history, config.epochs))
    ) as log:
        while state.epoch < config.epochs and state.epoch - state.best_epoch < config.patience:
            metrics = train_epoch(state, log)
            metrics |= evaluate_epoch(state)
            state.epoch += 1
            learning_rate = state.optimizer.param_groups[0]["lr"]
            improved = update_best(state, metrics)
            epoch_metrics = {
                "epoch": state.epoch,
                **metrics,
                "learning_rate": learning_rate,
                "best": improved,
            }
            state.history.append(epoch_metrics)
            world.run_on_all_ranks(partial(run.check_owner, owner) if world.rank == 0 else _noop)
            world.run_on_all_ranks(
                partial(publish, state, checkpoints, log, improved) if world.rank == 0 else _noop
            )
            yield epoch_metrics
    return {
        "best_epoch": state.best_epoch,
        "epochs": state.epoch,
        "stopped_early": state.epoch < config.epochs,
        **state.history[state.best_epoch - 1],
        "unvalidated_classes": unvalidated_classes(state.dataset, state.split),
    }


def update_best(state: TrainState, metrics: dict[str, float]) -> bool:
    """Record the epoch if it is the best so far; return whether it is.

    The best epoch has the best monitored metric, ties broken by the lower loss. Without validation or with
    `keep: last` the newest epoch is always the best.
    """
    if metrics.get("val_loss") is None or state.config.keep == "last":
        state.best_epoch = state.epoch
        return True
    sign = -1.0 if state.config.monitor == "val_loss" else 1.0
    score = [sign * metrics[state.config.monitor], -metrics["val_loss"]]
    if state.best_score and score <= state.best_score:
        return False
    state.best_score, state.best_epoch = score, state.epoch
    return True


def _noop() -> None:
    pass


def _one_hot(state: TrainState, batch: np.ndarray) -> Tensor:
    labels_B = torch.from_numpy(state.labels[batch]).to(state.world.device)
    return F.one_hot(labels_B, len(state.dataset.class_names)).float()
