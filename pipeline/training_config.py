"""What every training is told, of a classifier or of a GAN: the data, the split, the resources, the arithmetic."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from models.config import Config
from pipeline.io.storage import Place
from pipeline.machines import MachinesConfig, Need


class ResourceConfig(MachinesConfig):
    """What a training takes of the cluster; may differ when a run is continued."""

    workers: int = Field(1, ge=1)
    """Workers that share each batch (DDP)."""
    min_workers: int | None = Field(None, ge=1)
    """Go on with so few when machines are lost, and with all again when they are back; by default wait for all."""
    cpus_per_worker: int | None = Field(None, ge=1)
    """CPUs of each worker; by default its even part of a machine's."""
    gpus_per_worker: float = Field(0.0, ge=0)
    """GPUs of each worker; 0 trains on CPUs."""
    max_failures: int = Field(3, ge=0)
    """Lost workers after which the training is given up; each time before, it goes on from the last epoch."""
    compile: bool = False
    """Compile the network with torch.compile: minutes at the start, faster steps on a GPU."""

    @model_validator(mode="after")
    def _check_workers(self) -> Self:
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError(f"--min-workers {self.min_workers}: more than --workers {self.workers}")
        return self

    def need(self, cpus: int) -> Need:
        """What the training can't begin without, with so many CPUs for each worker."""
        return Need(self.min_workers or self.workers, cpus, self.gpus_per_worker)


class SplitConfig(Config):
    """Which rows of a set a training learns from, and which it keeps for judging."""

    augmentation_strength: float = Field(1.0, ge=0, le=1)
    """Uses the augmented copies up to this strength, and scales the augmentation in training by it."""
    val_fraction: float = Field(0.2, ge=0, lt=1)
    """Part of the clips that validates, stratified, whole recordings together; 0 trains on all."""
    val_part: tuple[int, int] | None = None
    """Instead of --val-fraction, deal the clips into parts and validate on one: its number from 1, and how many there are."""
    fold: int | None = None
    """Fold that is held out: neither learnt nor validated, only scored by `evaluate`."""
    deal_folds: int | None = Field(None, ge=2)
    """Deal the clips into so many folds, stratified and whole recordings together, instead of taking the manifest's."""
    seed: int = 42
    """Seed of the split, the weights, the order and all draws."""

    @field_validator("val_part")
    @classmethod
    def _check_part(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and (value[1] < 2 or not 1 <= value[0] <= value[1]):
            raise ValueError("needs two numbers, such as 1 5 for the first of five parts")
        return value


class TrainingConfig(ResourceConfig, SplitConfig):
    """The settings that all trainings share."""

    shards: Place
    """Folder of a complete extraction."""
    run: Place
    """Folder of the run: configuration, metrics, checkpoints, model. The same command again goes on where it stopped."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the networks; auto takes bfloat16 where the hardware multiplies it natively."""

    @property
    def sets(self) -> tuple[Path, ...]:
        """All shards that it learns from, its own first."""
        return (self.shards,)

    def identity(self) -> dict[str, Any]:
        """The settings that make a run what it is: those of the cluster may change when it is continued."""
        values = self.values()
        for name in (*ResourceConfig.model_fields, "run", "shards"):
            del values[name]
        return values
