"""Training state of the classifier."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.acoustics import Acoustics
from models.classifier import Classifier
from models.ema import Ema
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.multi_label.targets import MultiLabelTargets
from pipeline.data.dataset import ShardDataset
from pipeline.data.loader import BatchLoader
from pipeline.data.split import Split
from pipeline.training.epoch_position import EpochPosition
from pipeline.training.placement import TrainingData
from pipeline.training.step_runner import FlatGradients, StepRunner
from pipeline.training.world import World


@dataclass
class TrainState:
    """Training state of one worker; all that changes during training is saved in checkpoints."""

    config: TrainClassifierConfig
    world: World
    dataset: ShardDataset
    split: Split
    loader: BatchLoader
    labels: np.ndarray
    """Class of each row, those of the extra shards last; of several classes the rarest, C without any."""
    data: TrainingData
    """Datasets, and which worker reads which rows."""
    model: Classifier
    wrapped_model: nn.Module
    """`model` wrapped in DDP for several workers, and compiled with `--compile`; shares its weights."""
    ema: Ema[Classifier]
    optimizer: torch.optim.Optimizer
    autocast: Callable[[], torch.autocast]
    scaler: torch.amp.GradScaler
    """Scales the loss for float16, whose small gradients would vanish; does nothing for other precisions."""
    gradients: FlatGradients | None
    """On GPUs the gradients, averaged over workers between the parts of a step; on CPUs DDP averages them."""
    runner: StepRunner
    class_weight_C: Tensor | None
    statistics_rows: np.ndarray
    """Training rows that every rank can read, from which statistics are computed."""
    acoustics: Acoustics | None = None
    """Adds rooms and noise to training clips; None without that augmentation."""
    multi_label: MultiLabelTargets | None = None
    """Targets of a multi-label run; None if each clip has one class."""
    initial_weights: str = ""
    """Which weights the training starts from, if they are not random."""
    step: int = 0
    epoch: int = 0
    """Finished epochs."""
    epoch_step: int = 0
    """Finished steps at the start of the epoch."""
    best_score: list[float] = field(default_factory=list)
    best_epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    """Metrics of each finished epoch."""
    thresholds: tuple[float, ...] | None = None
    """Thresholds of a multi-label run, chosen by the newest validation, on the validation clips."""
    position: EpochPosition | None = None
    """Where the current epoch continues; None at its start."""

    @property
    def steps_per_epoch(self) -> int:
        """Global batches of an epoch."""
        return steps_per_epoch(self.config, self.split)

    @property
    def swa_start(self) -> int | None:
        """First step of stochastic weight averaging, counted from 0; None without it."""
        return self.ema.mean_from


def steps_per_epoch(config: TrainClassifierConfig, split: Split) -> int:
    """Return the number of global batches of an epoch."""
    return max(1, -(-len(split.train) // config.batch_size))
