"""Rows of a dataset for a PyTorch `DataLoader`, with the augmentation of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from models.acoustics import Acoustics
from models.augmentation_params import AugmentationTensors, sample_batch_augmentation
from models.batch_augment import mask, warp_and_gain
from models.settings import MixUpConfig, SpecAugmentConfig
from pipeline.audio.room_noise import acoustics_of
from pipeline.data.dataset import ShardDataset, open_dataset
from pipeline.data.loader import mel_statistics


class MelDataset(Dataset[tuple[Tensor, Tensor]]):
    """K rows of a dataset as pairs of a spectrogram and its target.

    When it is copied to another process, that process maps the spectrograms again.
    """

    def __init__(
        self,
        shards: Path,
        data: ShardDataset,
        rows: np.ndarray,
        augment: SpecAugmentConfig | None,
        strength: float,
        statistics_rows: np.ndarray,
    ):
        """Select rows.

        Args:
            shards: folder of the dataset.
            data: its content.
            rows: indices of the rows `[shape=(K,)]`.
            augment: settings of the augmentation; None for none.
            strength: factor of all sizes of the augmentation, 0 to 1.
            statistics_rows: rows whose mean fills the masks of the augmentation.
        """
        self.rows = rows
        """Row of each item in the dataset `[shape=(K,)]`."""
        self.class_names = data.class_names
        self._shards, self._augment, self._strength = shards, augment, strength
        self._mels: np.ndarray | None = data.mels
        targets = data.targets.astype(np.float32) if data.multi_label else data.labels
        self._targets = torch.from_numpy(targets[rows])
        self._mean_M = None if augment is None else mel_statistics(data.mels, statistics_rows)[0]
        self._features = data.features
        self._acoustics: Acoustics | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return the spectrogram in dB, float32 `[shape=(n_mels, num_frames)]`, and the target.

        That is a class index, int64, or of a multi-label dataset which classes are present, float32
        `[shape=(C,)]`.
        """
        if self._mels is None:
            self._mels = open_dataset(self._shards).mels
        mel_MT = torch.from_numpy(self._mels[self.rows[index]].astype(np.float32))
        return self._augmented(mel_MT), self._targets[index]

    def _augmented(self, mel_MT: Tensor) -> Tensor:
        if self._augment is None or self._mean_M is None:
            return mel_MT
        # Seeded by torch, which gives each worker process and each epoch another sequence.
        rng = np.random.default_rng(int(torch.randint(2**62, ())))
        sampled = sample_batch_augmentation(rng, 1, MixUpConfig(rate=0.0), self._augment, self._strength)
        arrays = sampled.arrays(*mel_MT.shape)
        params = AugmentationTensors.select({name: torch.from_numpy(value) for name, value in arrays.items()})
        mel_1MT = warp_and_gain(mel_MT[None], params, repeat=False)
        if self._augment.has_acoustics:
            if self._acoustics is None:
                self._acoustics = acoustics_of(self._features, torch.device("cpu"))
            mel_1MT = self._acoustics.add(mel_1MT, params)
        return mask(mel_1MT, params, self._mean_M)[0]

    def __getstate__(self) -> dict[str, Any]:
        # A pickled memory map would contain all spectrograms. The noise is quickly computed again.
        return self.__dict__ | {"_mels": None, "_acoustics": None}
