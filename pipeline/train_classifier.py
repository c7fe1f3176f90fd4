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
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.batch_augment import BatchDraw, draw_batch, mask, mix, mix_targets, roll_and_gain
from models.classifier import Classifier
from models.ema import Ema
from models.metrics import confusion_matrix, scores
from models.schedule import cosine_factor
from pipeline.checkpoint import Checkpoints
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.data.dataset import Rows, open_rows
from pipeline.extra_rows import open_extra, with_extra
from pipeline.io.errors import UserError, user_errors
from pipeline.model_file import ModelCard, save_model
from pipeline.row_split import Split, split_rows
from pipeline.row_store import MelStore, epoch_order, mel_statistics
from pipeline.run_folder import RunFolder
from pipeline.run_log import RunLog, open_log
from pipeline.stall import watched
from pipeline.training import (
    Epochs,
    World,
    decay_groups,
    epoch_batches,
    load_optimizer,
    optimizer_tensors,
    resolve_precision,
    rounds,
    run_out,
    share_of,
)

EVAL_BATCH = 128


@dataclass
class Training:
    """Everything that one worker holds; what changes over time is in the checkpoint."""

    config: TrainClassifierConfig
    world: World
    rows: Rows
    split: Split
    store: MelStore
    labels: np.ndarray
    model: Classifier
    wrapped: nn.Module
    ema: Ema[Classifier]
    optimizer: torch.optim.Optimizer
    autocast: Any
    class_weight_C: Tensor | None
    step: int = 0
    epoch: int = 0
    best: list[float] = field(default_factory=list)
    best_epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def steps_per_epoch(self) -> int:
        return max(1, -(-len(self.split.train) // self.config.batch_size))


def prepare(config: TrainClassifierConfig, world: World) -> Training:
    """Data, network and optimiser before the first step, equal on all workers."""
    rows, extra = world.together(lambda: (open_rows(config.shards), open_extra(config)))
    split = split_rows(rows, config)
    if len(split.train) < 2 * world.size:
        raise UserError(f"--workers {world.size}: more than the {len(split.train)} training rows can feed (two each)")
    torch.manual_seed(config.seed)
    model = Classifier(config.model, rows.features.mel.n_mels, len(rows.class_names))
    model.set_statistics(*mel_statistics(rows.mels, split.train))
    model = model.to(world.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    dtype = resolve_precision(config.precision, world.device)
    labels, split = with_extra(rows, split, extra)
    weight = None
    if config.class_weights:
        counts = np.bincount(labels[split.train], minlength=len(rows.class_names))
        weight = torch.tensor(counts.sum() / np.maximum(counts, 1) / len(counts), dtype=torch.float32, device=world.device)
    wrapped = world.wrap(model)
    return Training(
        config=config,
        world=world,
        rows=rows,
        split=split,
        store=MelStore([rows.mels, *(more.mels for more in extra)], world.device),
        labels=labels,
        model=model,
        wrapped=torch.compile(wrapped) if config.compile else wrapped,  # type: ignore[arg-type]
        ema=Ema(model, config.ema_decay),
        optimizer=torch.optim.AdamW(decay_groups(model, config.weight_decay), lr=config.learning_rate, fused=True),
        autocast=partial(torch.autocast, world.device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None),
        class_weight_C=weight,
    )


def make_batch(t: Training, batch: np.ndarray, draw: BatchDraw) -> tuple[Tensor, Tensor]:
    """This worker's part of a batch: augmented spectrograms in dB `[shape=(B, n_mels, num_frames)]` and targets `[shape=(B, C)]`."""
    part = share_of(len(batch), t.world)
    mine = draw[part]
    mel_BMT = roll_and_gain(t.store(batch[part]), mine.roll, mine.gain_db)
    target_BC = _one_hot(t, batch[part])
    if (mine.share < 1).any():
        if t.world.size == 1:
            other_BMT = mel_BMT[torch.from_numpy(mine.partner)]
        else:
            other_BMT = roll_and_gain(t.store(batch[mine.partner]), draw.roll[mine.partner], draw.gain_db[mine.partner])
        mel_BMT = mix(mel_BMT, other_BMT, mine.share)
        target_BC = mix_targets(target_BC, _one_hot(t, batch[mine.partner]), mine.share)
    return mask(mel_BMT, mine, t.model.mel_mean_M), target_BC


def train_step(t: Training, batch: np.ndarray, draw: BatchDraw) -> Tensor:
    """One step of all workers on one batch; returns this worker's part of the batch's mean loss, still on the device."""
    mel_BMT, target_BC = make_batch(t, batch, draw)
    for group in t.optimizer.param_groups:
        group["lr"] = t.config.learning_rate * cosine_factor(
            t.step, t.config.epochs * t.steps_per_epoch, round(t.config.warmup_epochs * t.steps_per_epoch)
        )
    with t.autocast():
        logits_BC = t.wrapped(mel_BMT)
    loss_B = F.cross_entropy(
        logits_BC.float(), target_BC, weight=t.class_weight_C, label_smoothing=t.config.label_smoothing, reduction="none"
    )
    # DDP averages gradients over workers; this makes that the mean over the batch, also where the parts differ by a row.
    loss = loss_B.sum() * (t.world.size / len(batch))
    loss.backward()
    nn.utils.clip_grad_norm_(t.model.parameters(), t.config.clip_norm)
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
    torch.manual_seed(int(np.random.SeedSequence([t.config.seed, t.epoch, t.world.rank]).generate_state(1)[0]))
    order = epoch_order(t.labels, t.split.train, t.config.sampling, np.random.default_rng([t.config.seed, t.epoch]))
    batches = epoch_batches(order, t.config.batch_size)
    start = time.perf_counter()
    total = torch.zeros((), device=t.world.device)
    with watched(t.world.patience) as alive:
        for number, batch in enumerate(batches):
            rng = np.random.default_rng([t.config.seed, t.epoch, number])
            draw = draw_batch(rng, len(batch), t.config.mixup, t.config.spec_augment, t.config.augmentation_strength)
            total += train_step(t, batch, draw)
            log.step(t.epoch + 1, number + 1, len(batches), start)
            alive()
    loss = float(t.world.sum(total)) / len(batches)
    if not math.isfinite(loss):
        raise UserError(f"the loss is {loss} in epoch {t.epoch + 1}: try a lower --learning-rate (now {t.config.learning_rate:g})")
    seconds = time.perf_counter() - start
    return {"train_loss": loss, "seconds": seconds, "rows_per_second": len(t.split.train) / seconds}


@torch.inference_mode()
def evaluate_epoch(t: Training) -> dict[str, float]:
    """Loss, accuracy and macro-F1 of the averaged weights on the validation clips, each clip counted once over all workers."""
    if len(t.split.val) == 0:
        return {}
    t.world.broadcast([value for value in t.ema.model.buffers() if value.is_floating_point()])
    num_classes = len(t.rows.class_names)
    mine = t.split.val[share_of(len(t.split.val), t.world)]
    confusion = torch.zeros(num_classes, num_classes, dtype=torch.float64)
    loss = 0.0
    for part in rounds(len(mine), EVAL_BATCH):
        index = mine[part]
        with t.autocast():
            logits_BC = t.ema.model(t.store(index).float())
        labels_B = torch.from_numpy(t.labels[index])
        loss += float(F.cross_entropy(logits_BC.float().cpu(), labels_B, reduction="sum"))
        confusion += torch.from_numpy(confusion_matrix(t.labels[index], logits_BC.argmax(1).cpu().numpy(), num_classes))
    counted = t.world.sum(torch.cat([confusion.reshape(-1), torch.tensor([loss], dtype=torch.float64)]).to(t.world.device)).cpu()
    result = scores(counted[:-1].reshape(num_classes, num_classes).long().numpy())
    return {
        "val_loss": float(counted[-1]) / len(t.split.val),
        "val_accuracy": result["accuracy"],
        "val_macro_f1": result["macro_f1"],
    }


def train_loop(config: TrainClassifierConfig, world: World, owner: str | None = None) -> dict[str, Any]:
    """`train_epochs` to its end; returns its result."""
    return run_out(train_epochs(config, world, owner))


def train_epochs(config: TrainClassifierConfig, world: World, owner: str | None = None) -> Epochs:
    """The whole training, as every worker runs it, from the newest checkpoint of the run if there is one; yields after each epoch.

    It writes to the run for as long as `owner` is the run's.

    Raises:
        UserError: on every worker, with the same text.
    """
    t = prepare(config, world)
    run = RunFolder(config.run)
    checkpoints = Checkpoints(config.run)
    state = world.together(checkpoints.read)
    if state is not None:
        restore(t, *state)
    with closing(world.together(partial(open_log, run, world.rank == 0, t.history, config.epochs))) as log:
        while t.epoch < config.epochs and t.epoch - t.best_epoch < config.patience:
            result = train_epoch(t, log)
            result |= evaluate_epoch(t)
            t.epoch += 1
            rate = t.optimizer.param_groups[0]["lr"]
            improved = note_best(t, result)
            line = {"epoch": t.epoch, **result, "learning_rate": rate, "best": improved}
            t.history.append(line)
            world.together(partial(run.check_owner, owner) if world.rank == 0 else _nothing)
            world.together(partial(publish, t, checkpoints, log, improved) if world.rank == 0 else _nothing)
            yield line
    best = t.history[t.best_epoch - 1]
    return {"best_epoch": t.best_epoch, "epochs": t.epoch, "stopped_early": t.epoch < config.epochs, **best}


def note_best(t: Training, result: dict[str, float]) -> bool:
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


def publish(t: Training, checkpoints: Checkpoints, log: RunLog, improved: bool) -> None:
    """Writes the model if it is the best, then the checkpoint, then the log: a crash between repeats the epoch, no more."""
    with user_errors("writing to", t.config.run):
        if improved:
            counts = np.bincount(t.labels[t.split.train], minlength=len(t.rows.class_names))
            training = {
                **t.history[-1],
                "class_counts": dict(zip(t.rows.class_names, counts.tolist(), strict=True)),
                "config": t.config.identity(),
            }
            card = ModelCard(model=t.config.model, features=t.rows.features, class_names=t.rows.class_names, training=training)
            save_model(t.config.run, t.ema.model, card)
        tensors = {
            "model": t.model.state_dict(),
            "ema": t.ema.model.state_dict(),
            "optimizer": optimizer_tensors(t.model, t.optimizer),
        }
        progress = {"step": t.step, "epoch": t.epoch, "best": t.best, "best_epoch": t.best_epoch, "ema_step": t.ema.step}
        checkpoints.write(t.epoch, tensors, {**progress, "history": t.history})
        log.epoch(t.history)


def restore(t: Training, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any]) -> None:
    """Puts a worker where the checkpoint was written."""
    t.model.load_state_dict(tensors["model"])
    t.ema.model.load_state_dict(tensors["ema"])
    load_optimizer(t.model, t.optimizer, tensors["optimizer"])
    t.step, t.epoch, t.ema.step = state["step"], state["epoch"], state["ema_step"]
    t.best, t.best_epoch, t.history = state["best"], state["best_epoch"], state["history"]


def _nothing() -> None:
    pass


def _one_hot(t: Training, index: np.ndarray) -> Tensor:
    labels_B = torch.from_numpy(t.labels[index]).to(t.world.device)
    return F.one_hot(labels_B, len(t.rows.class_names)).float()
