"""All settings of a classifier's training."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from models.batch_augment import MixUpConfig, SpecAugmentConfig
from models.classifier import ClassifierConfig
from pipeline.io.storage import PathOrURI
from pipeline.training.config import TrainingConfig


class TrainClassifierConfig(TrainingConfig):
    """From shards to a classifier."""

    extra_shards: tuple[PathOrURI, ...] = ()
    """Folders of further rows, such as generated ones, that are learnt but neither validated nor held out."""
    model: ClassifierConfig = ClassifierConfig()
    """The network."""
    mixup: MixUpConfig = MixUpConfig()
    """MixUp."""
    spec_augment: SpecAugmentConfig = SpecAugmentConfig()
    """Augmentation of spectrograms."""
    epochs: int = Field(80, ge=1)
    """Passes over the training rows, at most."""
    batch_size: int = Field(64, ge=2)
    """Rows of a step, over all workers together."""
    learning_rate: float = Field(2e-3, gt=0, le=1)
    """Highest learning rate of AdamW (Loshchilov 2019)."""
    warmup_epochs: float = Field(3.0, ge=0)
    """Epochs of linear rise, before the rate falls along half a cosine."""
    weight_decay: float = Field(0.05, ge=0, le=1)
    """Decoupled weight decay."""
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    """Part of each label that is spread over all classes (Szegedy et al. 2016)."""
    max_grad_norm: float = Field(2.0, gt=0)
    """Greatest norm of the gradient."""
    ema_decay: float = Field(0.995, ge=0, lt=1)
    """Of the averaged weights, which are validated and kept; 0 keeps the raw ones."""
    sampling: Literal["uniform", "balanced"] = "uniform"
    """Every row once an epoch, or as many draws with equal chance for each class."""
    class_weights: bool = False
    """Weigh the loss by the inverse of each class's frequency."""
    patience: int = Field(25, ge=1)
    """Epochs without a better validation after which training stops."""
    keep: Literal["best", "last"] = "best"
    """Keep the epoch that validates best, or the last one whatever it validates: then no choice hangs on the validation clips."""
    monitor: Literal["val_macro_f1", "val_accuracy", "val_loss"] = "val_macro_f1"
    """What the best checkpoint is best at; ties go to the lower loss."""

    @property
    def sets(self) -> tuple[Path, ...]:
        """All shards that it learns from, its own first."""
        return (self.shards, *self.extra_shards)
