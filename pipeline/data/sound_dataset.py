"""A dataset for programs and notebooks: table, spectrograms, labels and split, as numpy or for PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import pandas as pd

from models.settings import SpecAugmentConfig
from pipeline.audio.features import FeatureConfig
from pipeline.data.dataset import ShardDataset, open_dataset
from pipeline.data.split import Split, split_rows
from pipeline.data.split_config import SplitConfig
from pipeline.io.arguments import shown_value
from pipeline.io.errors import errors_without_flags
from pipeline.io.storage import user_path
from pipeline.io.text import plural

if TYPE_CHECKING:
    from pipeline.data.torch_dataset import MelDataset

Part = Literal["train", "validation", "held-out", "all"]


@dataclass(frozen=True, repr=False)
class SoundDataset:
    """All N rows of a dataset of `melray extract`, and their split into training and validation rows."""

    path: Path
    """Folder of the shards."""
    data: ShardDataset
    split_config: SplitConfig
    """Settings of the split."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the C classes."""
        return self.data.class_names

    @property
    def features(self) -> FeatureConfig:
        """Settings of the spectrograms."""
        return self.data.features

    @property
    def multi_label(self) -> bool:
        """Whether a row has any number of classes, rather than one."""
        return self.data.multi_label

    @property
    def table(self) -> pd.DataFrame:
        """Rows: clip_id, path, label, fold, group, copy (0: the original), strength, augmentation, …"""
        return self.data.table

    @property
    def mels(self) -> np.ndarray:
        """Spectrograms in dB, float16, a read-only memory map `[shape=(N, n_mels, num_frames)]`."""
        return self.data.mels

    @property
    def labels(self) -> np.ndarray:
        """Class index of each row `[shape=(N,)]`, int64; of several classes the rarest, C without any."""
        return self.data.labels

    @property
    def targets(self) -> np.ndarray:
        """Which classes each row has, bool `[shape=(N, C)]`."""
        return self.data.targets

    @cached_property
    def split(self) -> Split:
        """Rows to train on, to validate on and held-out ones, as training with these settings splits them.

        Raises:
            UserError: an impossible split, such as an unknown fold.
        """
        with errors_without_flags():
            return split_rows(self.data, self.split_config)

    def rows(self, part: Part = "all") -> np.ndarray:
        """Return the indices of the rows of a part of the split, sorted `[shape=(K,)]`.

        Raises:
            ValueError: an unknown part.
            UserError: an impossible split.
        """
        if part == "all":
            return np.arange(len(self))
        if part == "train":
            return self.split.train
        if part == "validation":
            return self.split.val
        if part == "held-out":
            return self.split.held_out
        raise ValueError(f"part {shown_value(part)}: expected 'train', 'validation', 'held-out' or 'all'")

    def arrays(self, part: Part = "all") -> tuple[np.ndarray, np.ndarray]:
        """Return the spectrograms and labels of a part of the split, in memory.

        Example:
            >>> mels, labels = dataset.arrays("train")

        Returns:
            Spectrograms in dB, float32 `[shape=(K, n_mels, num_frames)]`; and class indices
            `[shape=(K,)]`, or in a multi-label dataset which classes each row has, bool `[shape=(K, C)]`.

        Raises:
            ValueError: an unknown part.
            UserError: an impossible split.
        """
        rows = self.rows(part)
        return self.mels[rows].astype(np.float32), (self.targets if self.multi_label else self.labels)[rows]

    def torch(self, part: Part = "train", augment: bool | SpecAugmentConfig = False) -> MelDataset:
        """Return the rows of a part of the split as a map-style PyTorch dataset.

        Its items are a spectrogram in dB, float32 `(n_mels, num_frames)`, and a class index, or in a
        multi-label dataset a float32 vector `(C,)`. Worker processes of a `DataLoader` may be started in any
        way. Random numbers of the augmentation are those of torch: `torch.manual_seed` repeats them, and each
        epoch has others.

        Example:
            >>> from torch.utils.data import DataLoader
            >>> loader = DataLoader(dataset.torch("train", augment=True), batch_size=32, shuffle=True)

        Args:
            part: train, validation, held-out or all.
            augment: True for the shifts, stretches, gains and masks of `train-classifier` (SpecAugment), or
                their settings. MixUp, which combines clips of a batch, is left to the training loop.

        Raises:
            ValueError: an unknown part, or no settings.
            UserError: an impossible split.
        """
        from pipeline.data.torch_dataset import MelDataset

        if not isinstance(augment, (bool, SpecAugmentConfig)):
            expected = "expected True, False or melray.SpecAugmentConfig"
            raise ValueError(f"augment {shown_value(augment)}: {expected}")
        settings = SpecAugmentConfig() if augment is True else (augment or None)
        statistics = self.rows("train" if part == "train" else "all")
        strength = self.split_config.augmentation_strength
        return MelDataset(self.path, self.data, self.rows(part), settings, strength, statistics)

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        n_mels, frames = self.features.shape
        return (
            f"<SoundDataset {self.path.name}: {plural(len(self), 'row')} of "
            f"{plural(len(self.class_names), 'class')}, spectrograms of {n_mels} × {frames}>"
        )


class _AnySplitConfig(SplitConfig):
    """Split of any dataset, also of the single class of a GAN: what is trained with it is not known here."""

    min_classes: ClassVar[int] = 1


def open_sound_dataset(
    shards: str | Path,
    *,
    val_fraction: float = 0.2,
    val_split: tuple[int, int] | None = None,
    fold: int | None = None,
    num_folds: int | None = None,
    seed: int = 42,
    augmentation_strength: float = 1.0,
) -> SoundDataset:
    """Open a dataset of `melray extract`; the first time, its spectrograms are copied to a local cache.

    Example:
        >>> dataset = melray.open_dataset("shards", fold=5)
        >>> dataset.table.groupby("label").size()
        >>> dataset.mels[dataset.split.val[0]]

    Args:
        shards: folder of the dataset, or its URI.
        val_fraction: fraction of the clips to validate on, as the flag of `train-classifier`, as are:
        val_split: `(k, n)` splits the clips into n parts and validates on part k, from 1.
        fold: held-out fold.
        num_folds: assign clips to this many folds, ignoring those of the dataset.
        seed: random seed of the split.
        augmentation_strength: maximum strength of the augmented copies among the training rows.

    Raises:
        UserError: an unusable dataset, a damaged shard, a full disk, or an unusable cache folder.
        ConfigError: an invalid setting of the split.
    """
    path = user_path(shards)
    config = _AnySplitConfig(
        val_fraction=val_fraction,
        val_split=val_split,
        fold=fold,
        num_folds=num_folds,
        seed=seed,
        augmentation_strength=augmentation_strength,
    )
    with errors_without_flags():
        return SoundDataset(path, open_dataset(path), config)
