"""Head of a classifier that sees texture statistics alone: a kernel machine, trained with the network.

Rain, surf, fire, wind and engines have no shape that a clip repeats. A kernel machine on statistics of a clip
is mistaken about other clips than convolutions, so that the mean of both is right more often than either.

Shape suffixes: B batch, M mel bands, T frames, K statistics, R random features, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from models.precision import float32_only
from models.settings import ClassifierConfig
from models.texture_statistics import texture_statistics

# Statistics further from their mean over the training data, in standard deviations, are clipped.
MAX_DEVIATIONS = 5.0
# Random features, as a multiple of the size of the clip embedding.
FEATURES_FACTOR = 16
# Of the kernel, in standard deviations of a statistic.
KERNEL_WIDTH = math.sqrt(2)


class TextureHead(nn.Module):
    """Kernel machine on texture statistics, with logits of its own: linear in random features."""

    mean_K: Tensor
    std_K: Tensor

    def __init__(self, config: ClassifierConfig, n_mels: int, num_classes: int):
        super().__init__()
        num_statistics = texture_statistics(torch.zeros(1, n_mels, 2)).shape[1]
        self.register_buffer("mean_K", torch.zeros(num_statistics))
        self.register_buffer("std_K", torch.ones(num_statistics))
        num_features = FEATURES_FACTOR * config.embedding_dim
        self.features = RandomFeatures(num_statistics, num_features)
        self.layers = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(num_features, num_classes))

    def forward(self, mel_BMT: Tensor) -> Tensor:
        """Return logits `[shape=(B, C)]` of spectrograms in dB `[shape=(B, n_mels, num_frames)]`."""
        return self.classify(self.statistics(mel_BMT))

    def statistics(self, mel_BMT: Tensor) -> Tensor:
        """Return texture statistics in standard deviations from their means over the training data.

        Args:
            mel_BMT: spectrograms in dB `[shape=(B, n_mels, num_frames)]`.

        Returns:
            in [-`MAX_DEVIATIONS`, `MAX_DEVIATIONS`] `[shape=(B, num_statistics)]`.
        """
        statistics_BK = (texture_statistics(mel_BMT) - self.mean_K) / self.std_K
        return statistics_BK.clamp(-MAX_DEVIATIONS, MAX_DEVIATIONS)

    def classify(self, statistics_BK: Tensor) -> Tensor:
        """Return logits `[shape=(B, C)]` of what `statistics` returns."""
        return self.layers(self.features(statistics_BK))

    @property
    def num_statistics(self) -> int:
        """Number of statistics."""
        return len(self.mean_K)

    def set_statistics(self, mean_K: Tensor, std_K: Tensor) -> None:
        """Set mean and standard deviation of each statistic over the training data."""
        self.mean_K.copy_(mean_K)
        self.std_K.copy_(std_K.clamp(min=1e-3))


class RandomFeatures(nn.Module):
    """Cosines of random projections, whose products approximate a Gaussian kernel (Rahimi and Recht 2007).

    The mean product of the features of two inputs is half their kernel exp(-d² / (2 w²)), where d is the root
    mean square of their differences and w `KERNEL_WIDTH`. Directions consist of random signs, which is as
    good as normal numbers (Achlioptas 2003): each takes a byte of an exported model. They are the same in all
    networks, neither weights nor buffers, which would be saved, averaged and sent to all workers.
    """

    def __init__(self, num_inputs: int, num_features: int):
        super().__init__()
        directions = _random_directions(num_inputs, num_features)
        self._sign_KR, self._phase_R, self._projection_KR = directions

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the projections as well."""
        for name in ("_sign_KR", "_phase_R", "_projection_KR"):
            setattr(self, name, fn(getattr(self, name)))
        return super()._apply(fn, recurse)

    def forward(self, input_BK: Tensor) -> Tensor:
        """Return features in [-1, 1], float32 `[shape=(B, R)]`."""
        with float32_only(input_BK.device):
            is_exported = torch.compiler.is_exporting()
            projection_KR = _projection(self._sign_KR) if is_exported else self._projection_KR
            return torch.cos(input_BK.float() @ projection_KR + self._phase_R)


def _projection(sign_KR: Tensor) -> Tensor:
    """Return signs in the scale of the kernel, float32 `[shape=(K, R)]`."""
    return sign_KR.float() / (KERNEL_WIDTH * math.sqrt(len(sign_KR)))


@cache
def _random_directions(num_inputs: int, num_features: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return signs, int8 `[shape=(K, R)]`, phases, float32 `[shape=(R,)]`, and the projection of the signs.

    They are always the same, and shared by the networks of a process: members of an ensemble need no memory
    for their own.
    """
    # Of NumPy's generators, it is the one whose numbers are guaranteed never to change.
    random = np.random.RandomState(0)
    sign_KR = 2 * random.randint(0, 2, (num_inputs, num_features)) - 1
    phase_R = random.uniform(0, 2 * np.pi, num_features)
    signs, phases = torch.from_numpy(sign_KR.astype(np.int8)), torch.from_numpy(phase_R.astype(np.float32))
    return signs, phases, _projection(signs)
