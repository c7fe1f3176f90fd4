"""Training of the classifier, from top to bottom: a step, an epoch, a validation, the loop of one worker.

for each epoch
    for each batch         the same order and the same draws on every worker; each takes its part
        train_step         augment, MixUp, forward, backward, clip, AdamW, EMA
    evaluate_epoch         the averaged weights on the validation clips, counted over all workers
    checkpoint             rank 0 publishes the whole state; a restart goes on from the newest
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
from pipeline.classifier.state import Training, prepare, publish, restore
from pipeline.data.loader import batch_slices, epoch_batches, epoch_order
from pipeline.distributed.worker import watchdog
from pipeline.io.errors import UserError
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.log import RunLog, open_run_log
from pipeline.training.run_folder import RunFolder
from pipeline.training.world import EpochGenerator, World, exhaust, rank_slice

EVAL_BATCH = 128


def make_batch(t: Training, batch: np.ndarray, draw: BatchAugmentation) -> tuple[Tensor, Tensor]:
    """This worker's part of a batch: augmented spectrograms in dB `[shape=(B, n_mels, num_frames)]` and targets `[shape=(B, C)]`."""
    part = rank_slice(len(batch), t.world)
    mine = draw[part]
    mel_BMT = roll_and_gain(t.store(batch[part]), mine.roll, mine.gain_db)
    target_BC = _one_hot(t, batch[part])
    if (mine.share < 1).any():
        if t.world.size == 1:
            other_BMT = mel_BMT[torch.from_numpy(mine.partner)]
        else:
            other_BMT = roll_and_gain(
                t.store(batch[mine.partner]), draw.roll[mine.partner], draw.gain_db[mine.partner]
            )
        mel_BMT = mix(mel_BMT, other_BMT, mine.share)
        target_BC = mix_targets(target_BC, _one_hot(t, batch[mine.partner]), mine.share)
    return mask(mel_BMT, mine, t.model.mel_mean_M), target_BC


def train_step(t: Training, batch: np.ndarray, draw: BatchAugmentation) -> Tensor:
    """One step of all workers on one batch; returns this worker's part of the batch's mean loss, still on the device."""
    mel_BMT, target_BC = make_batch(t, batch, draw)
    for group in t.optimizer.param_groups:
        group["lr"] = t.config.learning_rate * cosine_factor(
            t.step, t.config.epochs * t.steps_per_epoch, round(t.config.warmup_epochs * t.steps_per_epoch)
        )
    with t.autocast():
        logits_BC = t.wrapped(mel_BMT)
    loss_B = F.cross_entropy(
        logits_BC.float(),
        target_BC,
        weight=t.class_weight_C,
        label_smoothing=t.config.label_smoothing,
        reduction="none",
    )
    # DDP averages gradients over workers; this makes that the mean over the batch, also where the parts differ by a row.
    loss = loss_B.sum() * (t.world.size / len(batch))
    loss.backward()
    nn.utils.clip_grad_norm_(t.model.parameters(), t.config.max_grad_norm)
    t.optimizer.step()
    t.optimizer.zero_grad(set_to_none=True)
    t.ema.update(t.model)
    t.step += 1
    return loss.detach() / t.world.size


def train_epoch(t: Training, log: RunLog) -> dict[str, float]:
    """One pass over the training rows; the mean loss over all workers, and rows a second.

    Raises:
        UserError: when the loss is not finite.
    """
    t.wrapped.train()
    # Dropout is the one draw that differs between workers.
    torch.manual_seed(
        int(np.random.SeedSequence([t.config.seed, t.epoch, t.world.rank]).generate_state(1)[0])
    )
    order = epoch_order(
        t.labels, t.split.train, t.config.sampling, np.random.default_rng([t.config.seed, t.epoch])
    )
    batches = epoch_batches(order, t.config.batch_size)
    start = time.perf_counter()
    total = torch.zeros((), device=t.world.device)
    with watchdog(t.world.timeout_s) as alive:
        for number, batch in enumerate(batches):
            rng = np.random.default_rng([t.config.seed, t.epoch, number])
            draw = sample_batch_augmentation(
                rng, len(batch), t.config.mixup, t.config.spec_augment, t.config.augmentation_strength
            )
            total += train_step(t, batch, draw)
            log.step(t.epoch + 1, number + 1, len(batches), start)
            alive()
    loss = float(t.world.sum(total)) / len(batches)
    if not math.isfinite(loss):
        raise UserError(
            f"the loss is {loss} in epoch {t.epoch + 1}: try a lower --learning-rate (now {t.config.learning_rate:g})"
        )
    seconds = time.perf_counter() - start
    return {"train_loss": loss, "seconds": seconds, "rows_per_second": len(t.split.train) / seconds}


@torch.inference_mode()
def evaluate_epoch(t: Training) -> dict[str, float]:
    """Loss, accuracy and macro-F1 of the averaged weights on the validation clips, each clip counted once over all workers."""
    if len(t.split.val) == 0:
        return {}
    t.world.broadcast([value for value in t.ema.model.buffers() if value.is_floating_point()])
    num_classes = len(t.rows.class_names)
    mine = t.split.val[rank_slice(len(t.split.val), t.world)]
    confusion = torch.zeros(num_classes, num_classes, dtype=torch.float64)
    loss = 0.0
    for part in batch_slices(len(mine), EVAL_BATCH):
        index = mine[part]
        with t.autocast():
            logits_BC = t.ema.model(t.store(index).float())
        labels_B = torch.from_numpy(t.labels[index])
        loss += float(F.cross_entropy(logits_BC.float().cpu(), labels_B, reduction="sum"))
        confusion += torch.from_numpy(
            confusion_matrix(t.labels[index], logits_BC.argmax(1).cpu().numpy(), num_classes)
        )
    counted = t.world.sum(
        torch.cat([confusion.reshape(-1), torch.tensor([loss], dtype=torch.float64)]).to(t.world.device)
    ).cpu()
    result = scores(counted[:-1].reshape(num_classes, num_classes).long().numpy())
    return {
        "val_loss": float(counted[-1]) / len(t.split.val),
        "val_accuracy": result["accuracy"],
        "val_macro_f1": result["macro_f1"],
    }


def train_loop(config: TrainClassifierConfig, world: World, owner: str | None = None) -> dict[str, Any]:
    """`train_epochs` to its end; returns its result."""
    return exhaust(train_epochs(config, world, owner))


def train_epochs(config: TrainClassifierConfig, world: World, owner: str | None = None) -> EpochGenerator:
    """The whole training, as every worker runs it, from the newest checkpoint of the run if there is one; yields after each epoch.

    It writes to the run for as long as `owner` is the run's.

    Raises:
        UserError: on every worker, with the same text.
    """
    t = prepare(config, world)
    run = RunFolder(config.run)
    checkpoints = Checkpoints(config.run)
    state = world.run_on_all_ranks(checkpoints.read)
    if state is not None:
        restore(t, *state)
    with closing(
        world.run_on_all_ranks(partial(open_run_log, run, world.rank == 0, t.history, config.epochs))
    ) as log:
        while t.epoch < config.epochs and t.epoch - t.best_epoch < config.patience:
            result = train_epoch(t, log)
            result |= evaluate_epoch(t)
            t.epoch += 1
            rate = t.optimizer.param_groups[0]["lr"]
            improved = update_best(t, result)
            line = {"epoch": t.epoch, **result, "learning_rate": rate, "best": improved}
            t.history.append(line)
            world.run_on_all_ranks(partial(run.check_owner, owner) if world.rank == 0 else _noop)
            world.run_on_all_ranks(
                partial(publish, t, checkpoints, log, improved) if world.rank == 0 else _noop
            )
            yield line
    best = t.history[t.best_epoch - 1]
    return {"best_epoch": t.best_epoch, "epochs": t.epoch, "stopped_early": t.epoch < config.epochs, **best}


def update_best(t: Training, result: dict[str, float]) -> bool:
    """Whether this epoch is the best so far; without validation, or where the last is to be kept, the newest always is."""
    if result.get("val_loss") is None or t.config.keep == "last":
        t.best_epoch = t.epoch
        return True
    sign = -1.0 if t.config.monitor == "val_loss" else 1.0
    score = [sign * result[t.config.monitor], -result["val_loss"]]
    if t.best and score <= t.best:
        return False
    t.best, t.best_epoch = score, t.epoch
    return True


def _noop() -> None:
    pass


def _one_hot(t: Training, index: np.ndarray) -> Tensor:
    labels_B = torch.from_numpy(t.labels[index]).to(t.world.device)
    return F.one_hot(labels_B, len(t.rows.class_names)).float()
