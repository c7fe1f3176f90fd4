"""All settings of a classifier's training."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from models.batch_augment import MixUpConfig, SpecAugmentConfig
from models.classifier import ClassifierConfig
from models.config import Config, Place


class ResourceConfig(Config):
    """What a training takes of the cluster; may differ when a run is continued."""

    workers: int = Field(1, ge=1)
    """Workers that share each batch (DDP)."""
    cpus_per_worker: int | None = Field(None, ge=1)
    """CPUs of each worker; by default its even part of a machine's."""
    gpus_per_worker: float = Field(0.0, ge=0)
    """GPUs of each worker; 0 trains on CPUs."""
    max_failures: int = Field(3, ge=0)
    """Lost workers after which the training is given up; each time before, it goes on from the last epoch."""
    compile: bool = False
    """Compile the network with torch.compile: minutes at the start, faster steps on a GPU."""


class TrainClassifierConfig(ResourceConfig):
    """From shards to a classifier."""

    shards: Place
    """Folder of a complete extraction."""
    run: Place
    """Folder of the run: configuration, metrics, checkpoints, model. The same command again goes on where it stopped."""
    model: ClassifierConfig = ClassifierConfig()
    """The network."""
    mixup: MixUpConfig = MixUpConfig()
    """MixUp."""
    spec_augment: SpecAugmentConfig = SpecAugmentConfig()
    """Augmentation of spectrograms."""
    augmentation_strength: float = Field(1.0, ge=0, le=1)
    """Uses the augmented copies up to this strength, and scales SpecAugment by it."""
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
    clip_norm: float = Field(2.0, gt=0)
    """Greatest norm of the gradient."""
    ema_decay: float = Field(0.995, ge=0, lt=1)
    """Of the averaged weights, which are validated and kept; 0 keeps the raw ones."""
    sampling: Literal["uniform", "balanced"] = "uniform"
    """Every row once an epoch, or as many draws with equal chance for each class."""
    class_weights: bool = False
    """Weigh the loss by the inverse of each class's frequency."""
    val_fraction: float = Field(0.2, ge=0, lt=1)
    """Part of the clips that validates, stratified, whole recordings together; 0 trains on all and keeps the last epoch."""
    fold: int | None = None
    """Fold that is held out: neither learnt nor validated, only scored by `evaluate`."""
    deal_folds: int | None = Field(None, ge=2)
    """Deal the clips into so many folds, stratified and whole recordings together, instead of taking the manifest's."""
    patience: int = Field(25, ge=1)
    """Epochs without a better validation after which training stops."""
    monitor: Literal["val_macro_f1", "val_accuracy", "val_loss"] = "val_macro_f1"
    """What the best checkpoint is best at; ties go to the lower loss."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the network; auto takes bfloat16 where the hardware multiplies it natively."""
    seed: int = 42
    """Seed of the split, the weights, the order and all augmentation."""

    def identity(self) -> dict[str, Any]:
        """The settings that make a run what it is: those of the cluster may change when it is continued."""
        values = self.values()
        for name in (*ResourceConfig.model_fields, "run", "shards"):
            del values[name]
        return values
