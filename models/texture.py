"""Head of a classifier that sees texture statistics alone: a kernel machine, trained with the network.

Rain, surf, fire, wind and engines have no shape that a clip repeats. A kernel machine on statistics of a clip
is mistaken about other clips than convolutions, so that the mean of both is right more often than either.

Shape suffixes: B batch, M mel bands, T frames, K statistics, R random features, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.random_features import RandomFeatures
from models.settings import ClassifierConfig
from models.texture_statistics import texture_statistics

# Statistics further from their mean over the training data, in standard deviations, are clipped.
MAX_DEVIATIONS = 5.0
# Weight of the logits of this head in the mean over both heads. If each of them had a temperature of its own,
# fitted on clips that were not trained on, its share would be about this.
TEXTURE_WEIGHT = 2 / 3
# The same for several classes per clip: statistics of sounds at the same time mix, shapes stay apart.
MULTI_LABEL_TEXTURE_WEIGHT = 0.4
# Random features, as a multiple of the size of the clip embedding: fewer the more classes there are, each of
# which has a weight for every feature. Each counts the less the more there are: Adam's steps have the same
# length for every weight, and so logits change by the same amount.
MIN_FACTOR, MAX_FACTOR = 16, 64
MAX_WEIGHTS = 2**20


class TextureHead(nn.Module):
    """Kernel machine on texture statistics, with logits of its own: linear in random features."""

    mean_K: Tensor
    std_K: Tensor

    def __init__(self, config: ClassifierConfig, n_mels: int, num_classes: int):
        super().__init__()
        num_statistics = texture_statistics(torch.zeros(1, n_mels, 2)).shape[1]
        self.register_buffer("mean_K", torch.zeros(num_statistics))
        self.register_buffer("std_K", torch.ones(num_statistics))
        factor = features_factor(config.embedding_dim * num_classes)
        num_features = config.embedding_dim * factor
        self._feature_scale = MIN_FACTOR / factor
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
        return self.layers(self._feature_scale * self.features(statistics_BK))

    @property
    def num_statistics(self) -> int:
        """Number of statistics."""
        return len(self.mean_K)

    def set_statistics(self, mean_K: Tensor, std_K: Tensor) -> None:
        """Set mean and standard deviation of each statistic over the training data."""
        self.mean_K.copy_(mean_K)
        self.std_K.copy_(std_K.clamp(min=1e-3))


def features_factor(num_weights: int) -> int:
    """Return by how much a number of features that needs `num_weights` weights is multiplied."""
    factor = MAX_FACTOR
    while factor > MIN_FACTOR and factor * num_weights > MAX_WEIGHTS:
        factor //= 2
    return factor
