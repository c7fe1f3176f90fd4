"""The state of a classifier's training: prepared, published, restored."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.classifier import Classifier
from models.ema import Ema
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.data.dataset import ShardDataset, open_dataset
from pipeline.data.loader import BatchLoader, mel_statistics
from pipeline.data.split import Split, append_extra_rows, open_extra_shards, split_rows
from pipeline.io.errors import UserError, report_os_errors
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.log import RunLog
from pipeline.training.model_file import ClassifierMetadata, save_model
from pipeline.training.optim import decay_groups, load_optimizer, optimizer_tensors, resolve_precision
from pipeline.training.world import World


@dataclass
class Training:
    """Everything that one worker holds; what changes over time is in the checkpoint."""

    config: TrainClassifierConfig
    world: World
    rows: ShardDataset
    split: Split
    store: BatchLoader
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
    rows, extra = world.run_on_all_ranks(
        lambda: (open_dataset(config.shards), open_extra_shards(config.shards, config.extra_shards))
    )
    split = split_rows(rows, config)
    if len(split.train) < 2 * world.size:
        raise UserError(
            f"--workers {world.size}: more than the {len(split.train)} training rows can feed (two each)"
        )
    torch.manual_seed(config.seed)
    model = Classifier(config.model, rows.features.mel.n_mels, len(rows.class_names))
    model.set_statistics(*mel_statistics(rows.mels, split.train))
    model = model.to(world.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    dtype = resolve_precision(config.precision, world.device)
    labels, split = append_extra_rows(rows, split, extra)
    weight = None
    if config.class_weights:
        counts = np.bincount(labels[split.train], minlength=len(rows.class_names))
        weight = torch.tensor(
            counts.sum() / np.maximum(counts, 1) / len(counts), dtype=torch.float32, device=world.device
        )
    wrapped = world.wrap(model)
    return Training(
        config=config,
        world=world,
        rows=rows,
        split=split,
        store=BatchLoader([rows.mels, *(more.mels for more in extra)], world.device),
        labels=labels,
        model=model,
        wrapped=torch.compile(wrapped) if config.compile else wrapped,  # type: ignore[arg-type]
        ema=Ema(model, config.ema_decay),
        optimizer=torch.optim.AdamW(
            decay_groups(model, config.weight_decay), lr=config.learning_rate, fused=True
        ),
        autocast=partial(
            torch.autocast, world.device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None
        ),
        class_weight_C=weight,
    )


def publish(t: Training, checkpoints: Checkpoints, log: RunLog, improved: bool) -> None:
    """Writes the model if it is the best, then the checkpoint, then the log: a crash between repeats the epoch, no more."""
    with report_os_errors("writing to", t.config.run):
        if improved:
            counts = np.bincount(t.labels[t.split.train], minlength=len(t.rows.class_names))
            training = {
                **t.history[-1],
                "class_counts": dict(zip(t.rows.class_names, counts.tolist(), strict=True)),
                "config": t.config.identity(),
            }
            card = ClassifierMetadata(
                model=t.config.model,
                features=t.rows.features,
                class_names=t.rows.class_names,
                training=training,
            )
            save_model(t.config.run, t.ema.model, card)
        tensors = {
            "model": t.model.state_dict(),
            "ema": t.ema.model.state_dict(),
            "optimizer": optimizer_tensors(t.model, t.optimizer),
        }
        progress = {
            "step": t.step,
            "epoch": t.epoch,
            "best": t.best,
            "best_epoch": t.best_epoch,
            "ema_step": t.ema.step,
        }
        checkpoints.write(t.epoch, tensors, {**progress, "history": t.history})
        log.epoch(t.history)


def restore(t: Training, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any]) -> None:
    """Puts a worker where the checkpoint was written."""
    t.model.load_state_dict(tensors["model"])
    t.ema.model.load_state_dict(tensors["ema"])
    load_optimizer(t.model, t.optimizer, tensors["optimizer"])
    t.step, t.epoch, t.ema.step = state["step"], state["epoch"], state["ema_step"]
    t.best, t.best_epoch, t.history = state["best"], state["best_epoch"], state["history"]
