"""Settings of the split of a dataset; a command line is parsed without the libraries that split it."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, field_validator

from models.config import Config, Seed


class SplitConfig(Config):
    """Split of a dataset into training, validation and held-out rows."""

    min_classes: ClassVar[int] = 2
    """Minimum number of classes, for there to be something to distinguish."""

    augmentation_strength: float = Field(1.0, ge=0, le=1)
    """Maximum strength of the augmented copies to train on; also scales SpecAugment."""
    val_fraction: float = Field(0.2, ge=0, lt=1)
    """Validation fraction (stratified, grouped by recording); 0 trains on all clips."""
    val_split: tuple[int, int] | None = None
    """Alternative to --val-fraction: K N splits the clips into N parts and validates on part K, from 1."""
    fold: int | None = None
    """Held-out fold: used only by `evaluate`."""
    num_folds: int | None = Field(None, ge=2)
    """Assign clips to N folds (stratified, grouped by recording), ignoring the manifest's."""
    seed: Seed = 42
    """Random seed for split, initialization, data order and augmentation."""
    split_seed: Seed | None = None
    """Random seed for the split alone (default: --seed), to train with several seeds on the same clips."""

    @field_validator("val_split")
    @classmethod
    def _check_val_split(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and (value[1] < 2 or not 1 <= value[0] <= value[1]):
            raise ValueError(
                "needs two integers K N with 1 <= K <= N, such as 1 5 for the first of five parts"
            )
        return value

    @property
    def seed_of_split(self) -> int:
        """Random seed for the split."""
        return self.seed if self.split_seed is None else self.split_seed
