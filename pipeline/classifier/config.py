"""Settings of classifier training and cross-validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from models.settings import FORMER_SETTINGS, ClassifierConfig, InputName, MixUpConfig, SpecAugmentConfig
from pipeline.io.storage import PathOrURI
from pipeline.training.config import TrainingConfig

# Last part of the epochs, in which a run may stop early, and epochs without improvement after which it
# does, both as a fraction of all: the cosine is then below 15 % of the peak learning rate.
EARLY_STOPPING_FRACTION = 0.25
# Epochs, and steps, without a lower validation loss after which a constant learning rate decays: in the first
# steps the loss of a network may rise before it falls.
PLATEAU_EPOCHS, PLATEAU_STEPS = 3, 60


class TrainClassifierConfig(TrainingConfig):
    """Train a classifier on shards."""

    extra_shards: tuple[PathOrURI, ...] = ()
    """Additional shard folders (e.g. generated clips), used for training only."""
    init_from: PathOrURI | None = None
    """Start from the weights of this run, or of a .safetensors file: all that fit; the output layer is
    random unless the classes are the same. Networks of timm also read files of timm (.safetensors, .pth)."""
    freeze: int = Field(0, ge=0)
    """Number of stages, from the input (stem, blocks or the stages of timm, modulation if used, projection,
    head), whose weights are not trained."""
    stage_lr_factor: float = Field(1.0, gt=0, le=1)
    """Factor of the learning rate from each stage to the one before it; at 1 all have the same."""
    model: ClassifierConfig = ClassifierConfig()
    """Architecture of the network."""
    multi_label: bool | None = None
    """A clip has any number of classes, each with a probability of its own; --no-multi-label: exactly one
    (default: as the shards were extracted)."""
    mixup: MixUpConfig = MixUpConfig()
    """MixUp; multi-label: two samples sound together, and have the classes of both."""
    spec_augment: SpecAugmentConfig = SpecAugmentConfig()
    """SpecAugment."""
    epochs: int = Field(80, ge=1)
    """Maximum number of epochs."""
    batch_size: int = Field(64, ge=2)
    """Global batch size, summed over workers."""
    learning_rate: float = Field(2e-3, gt=0, le=1)
    """Peak learning rate of AdamW (Loshchilov 2019)."""
    warmup_epochs: float | None = Field(None, ge=0)
    """Epochs of linear warmup before cosine decay (default: 3, at most a fifth of the epochs)."""
    schedule: Literal["cosine", "plateau"] = "cosine"
    """Learning rate after the warmup. cosine: decays over all epochs; plateau: constant until the validation
    loss has not fallen by 5 % for --patience epochs, at most for half of --epochs, then decays over the
    same number of epochs, after which training ends."""
    weight_decay: float = Field(0.05, ge=0, le=1)
    """Decoupled weight decay."""
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    """Probability mass of each label spread over all classes (Szegedy et al. 2016); multi-label: of each
    class, moved to its frequency."""
    max_grad_norm: float = Field(2.0, gt=0)
    """Maximum gradient norm."""
    ema_decay: float = Field(0.995, ge=0, lt=1)
    """Decay of the EMA weights, which are validated and saved; 0 uses the raw weights."""
    swa_fraction: float = Field(0.0, ge=0, lt=1)
    """Stochastic weight averaging (Izmailov et al. 2018): over this last fraction of the epochs, the mean of
    the weights of all steps replaces the EMA weights; 0 is off."""
    swa_lr_factor: float = Field(0.2, gt=0, le=1)
    """Factor of the peak learning rate to which it decays before stochastic weight averaging, and at which it
    stays."""
    sampling: Literal["uniform", "balanced"] = "uniform"
    """uniform: every row once per epoch; balanced: equal probability per class, by the rarest of a row."""
    class_weights: bool = False
    """Weight the loss by the inverse frequency of each class; multi-label: where the class is present, by
    the ratio of rows without and with it, from 0.1 to 10."""
    focal_gamma: float = Field(0.0, ge=0, le=5)
    """Multi-label: exponent of the focal loss (Lin et al. 2017), which emphasizes hard rows; 0 is
    cross-entropy."""
    patience: int | None = Field(None, ge=1)
    """Stop after this many epochs without improvement (default: a quarter of --epochs, and only in their last
    quarter: before, the learning rate is high and the best epochs are to come; --schedule plateau: 3,
    and at least 60 steps)."""
    keep: Literal["best", "last"] = "best"
    """best: best validation score; last: final epoch, so nothing is selected on the validation clips."""
    monitor: Literal["val_macro_f1", "val_accuracy", "val_loss", "val_map"] | None = None
    """Metric that selects the best checkpoint; ties are broken by the lower loss (default: val_macro_f1;
    multi-label: val_map, the macro average precision)."""
    refit: bool = False
    """After validation, train again on all clips, those of the validation included, for the number of
    epochs that validation chose; the model is that of this second run."""
    ensemble: int = Field(1, ge=1, le=100)
    """Number of models with the same split and the seeds --seed, --seed + 1, …, which predict as one."""
    ensemble_inputs: tuple[InputName, ...] = ()
    """Inputs of the models of an ensemble in turn, such as `db db+pcen` (default: --model.input of all)."""

    @model_validator(mode="after")
    def _check_warmup(self) -> Self:
        if self.warmup_epochs is not None and self.warmup_epochs > self.epochs:
            raise ValueError(
                f"--warmup-epochs {self.warmup_epochs:g} is longer than the training (--epochs {self.epochs})"
            )
        if self.num_warmup_epochs > self.decay_epochs:
            raise ValueError(
                f"--swa-fraction {self.swa_fraction:g}: weights are averaged before the warmup of "
                f"{self.num_warmup_epochs:g} epochs ends; lower it, or --warmup-epochs"
            )
        if self.schedule == "plateau" and self.swa_fraction:
            raise ValueError(
                f"--swa-fraction {self.swa_fraction:g} needs --schedule cosine: a plateau ends the training "
                "at an epoch that is not known when the averaging begins"
            )
        return self

    @model_validator(mode="after")
    def _check_freeze(self) -> Self:
        if self.init_from is not None and self.model.pretrained:
            raise ValueError(
                "--init-from and --model.pretrained: the network has one set of weights; drop one"
            )
        if self.freeze and self.init_from is None and not self.model.pretrained:
            raise ValueError(f"--freeze {self.freeze} needs --init-from: random weights would stay random")
        return self

    @model_validator(mode="after")
    def _check_refit(self) -> Self:
        if self.refit and not self.validates:
            raise ValueError("--refit needs validation clips, which choose the epochs: raise --val-fraction")
        return self

    @model_validator(mode="after")
    def _check_ensemble(self) -> Self:
        if self.ensemble_inputs and self.ensemble < (needed := max(2, len(self.ensemble_inputs))):
            single = "; for one model use --model.input" if len(self.ensemble_inputs) == 1 else ""
            raise ValueError(
                f"--ensemble-inputs {' '.join(self.ensemble_inputs)}: {len(self.ensemble_inputs)} inputs for "
                f"--ensemble {self.ensemble}; raise it to at least {needed}{single}"
            )
        if self.ensemble_inputs and self.model.input != ClassifierConfig().input:
            raise ValueError(
                f"--model.input {self.model.input} and --ensemble-inputs: the models have the inputs of the "
                "latter; drop one"
            )
        return self

    @model_validator(mode="after")
    def _check_balance(self) -> Self:
        if self.sampling == "balanced" and self.class_weights:
            raise ValueError(
                "--sampling balanced and --class-weights: each makes up for rare classes, and both together "
                "prefer them; drop one"
            )
        return self

    @classmethod
    def default_settings(cls) -> dict[str, Any]:
        settings = super().default_settings()
        return settings | {"model": settings["model"] | FORMER_SETTINGS}

    @property
    def validates(self) -> bool:
        """Whether there are validation clips."""
        return self.val_fraction > 0 or self.val_split is not None

    @property
    def ineffective_settings(self) -> list[str]:
        """Settings that have no effect together with others, one line each."""
        if self.schedule != "cosine" and not self.validates:
            return [
                f"--schedule {self.schedule} without validation clips: the learning rate stays constant for "
                "half of the epochs"
            ]
        if self.patience is None or self.schedule != "cosine" or (self.validates and self.keep == "best"):
            return []
        reason = "with --keep last" if self.validates else "without validation clips"
        return [f"--patience {self.patience} has no effect {reason}: the training never stops early"]

    @property
    def final(self) -> Self:
        return self.model_copy(update={"val_fraction": 0.0, "val_split": None}) if self.refit else self

    @property
    def initial_run(self) -> Path | None:
        return self.init_from

    @property
    def decay_epochs(self) -> float:
        """Epochs of warmup and cosine decay, after which the weights are averaged if they are."""
        return self.epochs * (1 - self.swa_fraction)

    def stops_early(self, epoch: int, best_epoch: int) -> bool:
        """Whether to stop after `epoch` epochs, of which `best_epoch` was the best.

        By default the training never stops where the learning rate is high, nor before the mean of weights
        (SWA) is formed; an explicit patience counts from the start. The decay after a plateau, which itself
        comes early, is always carried out.
        """
        if self.schedule == "plateau":
            return False
        if self.patience is not None:
            return epoch - best_epoch >= self.patience
        return (
            not self.swa_fraction
            and epoch >= (1 - EARLY_STOPPING_FRACTION) * self.epochs
            and epoch - best_epoch >= EARLY_STOPPING_FRACTION * self.epochs
        )

    @property
    def num_warmup_epochs(self) -> float:
        """Epochs of linear warmup."""
        return min(3.0, self.epochs / 5) if self.warmup_epochs is None else self.warmup_epochs

    @property
    def shard_folders(self) -> tuple[Path, ...]:
        """All shard folders to train on, `shards` first."""
        return (self.shards, *self.extra_shards)


class CrossvalConfig(TrainClassifierConfig):
    """Train and evaluate once per fold; the settings are those of `train-classifier`.

    With --tuned, each fold's settings come from a separate search: `melray crossval --tuned --help`.
    """

    val_fraction: float = Field(0.0, ge=0, lt=1)
    """Fraction of each fold's training clips used for validation; 0 trains on all clips."""
    tta_shifts: int = Field(1, ge=1, le=64)
    """Test-time augmentation: circular time shifts to average over."""

    @model_validator(mode="after")
    def _check_fold(self) -> CrossvalConfig:
        if self.fold is not None:
            raise ValueError(f"--fold {self.fold}: crossval holds out every fold; drop --fold")
        return self
