"""Everything that a worker of a GAN's training holds: how it is made, written to a checkpoint and put back."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.ema import Ema
from models.gan import Discriminator, Generator
from models.gan_metrics import diversity, mean_pairwise_difference
from pipeline.data.dataset import ShardDataset, open_dataset
from pipeline.data.loader import BatchLoader, mel_statistics, subsample_evenly
from pipeline.data.split import Split, split_rows
from pipeline.gan.config import TrainGanConfig
from pipeline.gan.snapshots import SnapshotWriter
from pipeline.io.errors import UserError, report_os_errors
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.log import RunLog
from pipeline.training.model_file import GeneratorMetadata, save_model
from pipeline.training.optim import load_optimizer, optimizer_tensors, resolve_precision
from pipeline.training.world import World

# Rows whose values are looked at before the first step.
MAX_CHECKED_ROWS = 5000
# What changes over time, beside tensors and history.
PROGRESS = ("step", "epoch", "ada_p", "lr_scale", "rollbacks", "best", "best_epoch")


@dataclass
class GanTraining:
    """Everything that one worker holds; what changes over time is in the checkpoint."""

    config: TrainGanConfig
    world: World
    rows: ShardDataset
    split: Split
    store: BatchLoader
    labels: np.ndarray
    generator: Generator
    discriminator: Discriminator
    ema: Ema[Generator]
    optimizers: dict[str, torch.optim.Optimizer]
    autocast: Any
    draw: Any
    """The generator as it is called: itself, or compiled."""
    sampler: SnapshotWriter
    real_diversity: float
    real_difference: float
    step: int = 0
    epoch: int = 0
    ada_p: float = 0.0
    lr_scale: float = 1.0
    rollbacks: int = 0
    best: float | None = None
    best_epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    collapse: str = ""
    """What the last one was, until the next good epoch has told it."""

    @property
    def passes(self) -> int:
        """Times that an epoch passes over the training rows."""
        return max(1, -(-self.config.epoch_steps // self._batches))

    @property
    def steps_per_epoch(self) -> int:
        return self.passes * self._batches

    @property
    def through(self) -> float:
        """Part of all steps that is done, in [0, 1]."""
        return min(1.0, self.step / (self.config.epochs * self.steps_per_epoch))

    @property
    def _batches(self) -> int:
        return max(1, -(-len(self.split.train) // self.config.batch_size))


def prepare(config: TrainGanConfig, world: World) -> GanTraining:
    """Data, networks and optimisers before the first step, equal on all workers."""
    rows = world.run_on_all_ranks(lambda: open_dataset(config.shards))
    split = split_rows(rows, config)
    check_rows(rows, split, config, world)
    torch.manual_seed(config.seed)
    shape = rows.features.shape
    generator = Generator(config.gan, shape, len(rows.class_names))
    discriminator = Discriminator(config.gan, shape, len(rows.class_names))
    statistics = mel_statistics(rows.mels, split.train)
    for model in (generator, discriminator):
        model.set_statistics(*statistics)
        model.to(world.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    dtype = resolve_precision(config.precision, world.device)
    some = subsample_evenly(split.train, 1000)
    return GanTraining(
        config=config,
        world=world,
        rows=rows,
        split=split,
        store=BatchLoader([rows.mels], world.device),
        labels=rows.labels,
        generator=generator,
        discriminator=discriminator,
        ema=Ema(generator, config.ema_decay),
        optimizers={
            "generator": _adam(generator, config.generator_lr),
            "discriminator": _adam(discriminator, config.discriminator_lr),
        },
        autocast=partial(
            torch.autocast, world.device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None
        ),
        # Not the discriminator: compiled code can't be differentiated twice.
        draw=torch.compile(generator) if config.compile else generator,
        sampler=SnapshotWriter(config, rows, split),
        real_diversity=max(diversity(rows.mels[some].astype(np.float32), rows.labels[some]), 1e-6),
        real_difference=max(
            mean_pairwise_difference(rows.mels[some], rows.labels[some], generator.mel_std_M.cpu().numpy()),
            1e-6,
        ),
        ada_p=config.ada.p,
    )


def check_rows(rows: ShardDataset, split: Split, config: TrainGanConfig, world: World) -> None:
    """Refuses what no GAN can learn from.

    Raises:
        UserError: more workers than rows, a class with fewer than two clips, or values that are no numbers.
    """
    if config.batch_size < world.size:
        raise UserError(
            f"--workers {world.size}: more than the --batch-size {config.batch_size}; each needs a clip of every step"
        )
    counts = np.bincount(rows.labels[split.train], minlength=len(rows.class_names))
    if counts.min() < 2:
        name = rows.class_names[int(counts.argmin())]
        raise UserError(
            f"class '{name}' has {counts.min()} training clips: a generator needs two or more of each; add some, or leave it out"
        )
    for row in subsample_evenly(split.train, MAX_CHECKED_ROWS):
        if not np.isfinite(rows.mels[row]).all():
            raise UserError(
                f"clip '{rows.table['clip_id'][row]}' holds values that are no numbers: extract {config.shards} again"
            )


def publish(t: GanTraining, checkpoints: Checkpoints, log: RunLog, improved: bool) -> None:
    """Writes the generator if it is the best, then the checkpoint, then the log: a crash between repeats the epoch, no more."""
    with report_os_errors("writing to", t.config.run):
        if improved:
            training = {**t.history[-1], "config": t.config.identity()}
            card = GeneratorMetadata(
                model=t.config.gan,
                features=t.rows.features,
                class_names=t.rows.class_names,
                training=training,
            )
            save_model(t.config.run, t.ema.model, card)
        tensors = {
            "generator": t.generator.state_dict(),
            "discriminator": t.discriminator.state_dict(),
            "ema": t.ema.model.state_dict(),
            "generator_optimizer": optimizer_tensors(t.generator, t.optimizers["generator"]),
            "discriminator_optimizer": optimizer_tensors(t.discriminator, t.optimizers["discriminator"]),
        }
        progress = {name: getattr(t, name) for name in PROGRESS}
        checkpoints.write(t.epoch, tensors, {**progress, "ema_step": t.ema.step, "history": t.history})
        log.epoch(t.history)


def restore(t: GanTraining, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any]) -> None:
    """Puts a worker where the checkpoint was written."""
    t.generator.load_state_dict(tensors["generator"])
    t.discriminator.load_state_dict(tensors["discriminator"])
    t.ema.model.load_state_dict(tensors["ema"])
    load_optimizer(t.generator, t.optimizers["generator"], tensors["generator_optimizer"])
    load_optimizer(t.discriminator, t.optimizers["discriminator"], tensors["discriminator_optimizer"])
    for name in PROGRESS:
        setattr(t, name, state[name])
    t.ema.step, t.history = state["ema_step"], state["history"]


def _adam(model: nn.Module, rate: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=rate, betas=(0.0, 0.99), fused=True)
