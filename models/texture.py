"""Texture: statistics over time of the levels of a clip's mel bands (McDermott and Simoncelli 2011).

Rain, surf, fire, wind and engines have no shape that a clip repeats; they are heard by statistics of their
envelopes: how levels are distributed, how fast they change, which bands change together. A kernel machine on
such statistics alone is mistaken about other clips than convolutions, so that the mean of both is right more
often than either.

Shape suffixes: B batch, M mel bands, T frames, G groups of bands, F modulation frequencies, K statistics,
R random features, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from models.modulation import group_means, modulation_spectrum
from models.precision import float32_only
from models.settings import ClassifierConfig

# Groups of neighboring bands, whose levels are averaged: for statistics of a band, for correlations between
# bands, and for modulation spectra.
NUM_GROUPS, NUM_CORRELATED, NUM_MODULATED = 40, 20, 8
# Levels further below the loudest of the clip are raised to this, in dB: digital silence is no quieter sound.
RANGE_DB = 80.0
# Quantiles of the levels around their mean, and of their differences between frames.
LEVEL_QUANTILES = (0.05, 0.25, 0.75, 0.95)
CHANGE_QUANTILES = (0.01, 0.1, 0.9, 0.99)
# Parts of the modulation spectrum, their number and width in octaves: whose mean power is taken, and whose
# highest line is compared with their mean.
LEVEL_OCTAVES, LINE_OCTAVES = (11, 0.5), (3, 2.0)
# In dB: relative to it, fluctuations of a band are small, and their correlations with those of others noise.
MIN_DEVIATION_DB = 0.1
# Statistics further from their mean over the training data, in standard deviations, are clipped.
MAX_DEVIATIONS = 5.0
# Random features, as a multiple of the size of the clip embedding.
FEATURES_FACTOR = 16
# Weight of its logits in the mean with those of the head on the clip embedding.
TEXTURE_WEIGHT = 0.4


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
        statistics_BK = (texture_statistics(mel_BMT) - self.mean_K) / self.std_K
        return self.layers(self.features(statistics_BK.clamp(-MAX_DEVIATIONS, MAX_DEVIATIONS)))

    def set_statistics(self, mean_K: Tensor, std_K: Tensor) -> None:
        """Set mean and standard deviation of each statistic over the training data."""
        self.mean_K.copy_(mean_K)
        self.std_K.copy_(std_K.clamp(min=1e-3))


class RandomFeatures(nn.Module):
    """Cosines of random projections, whose products approximate a Gaussian kernel (Rahimi and Recht 2007).

    The mean product of the features of two inputs is half their kernel exp(-d² / 2), where d is the root mean
    square of their differences. The projections are the same in all networks: they are neither weights nor
    buffers, which would be saved, averaged and sent to all workers.
    """

    def __init__(self, num_inputs: int, num_features: int):
        super().__init__()
        self._projection_KR, self._phase_R = _random_projection(num_inputs, num_features)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the projections as well."""
        self._projection_KR, self._phase_R = fn(self._projection_KR), fn(self._phase_R)
        return super()._apply(fn, recurse)

    def forward(self, input_BK: Tensor) -> Tensor:
        """Return features in [-1, 1], float32 `[shape=(B, R)]`."""
        with float32_only(input_BK.device):
            return torch.cos(input_BK.float() @ self._projection_KR + self._phase_R)


@cache
def _random_projection(num_inputs: int, num_features: int) -> tuple[Tensor, Tensor]:
    """Return directions `[shape=(K, R)]` and phases `[shape=(R,)]` of random features, always the same."""
    # Of NumPy's generators, it is the one whose numbers are guaranteed never to change.
    random = np.random.RandomState(0)
    projection = random.standard_normal((num_inputs, num_features)) / np.sqrt(num_inputs)
    phase = random.uniform(0, 2 * np.pi, num_features)
    return torch.from_numpy(projection.astype(np.float32)), torch.from_numpy(phase.astype(np.float32))


def texture_statistics(mel_BMT: Tensor) -> Tensor:
    """Return statistics over time of the levels of a clip, which do not depend on its gain.

    The mean spectrum; quantiles of the levels of each band, and of their changes from frame to frame;
    correlations between bands; the modulation spectrum in half octaves, and how far its lines stand out.
    Their number does not depend on that of the frames.

    Args:
        mel_BMT: spectrograms in dB `[shape=(B, n_mels, num_frames)]`.

    Returns:
        float32 `[shape=(B, K)]`.
    """
    with float32_only(mel_BMT.device):
        mel_BMT = mel_BMT.float()
        mel_BMT = torch.maximum(mel_BMT, mel_BMT.amax(dim=(1, 2), keepdim=True) - RANGE_DB)
        level_BGT = group_means(mel_BMT, NUM_GROUPS)
        if level_BGT.shape[2] == 1:
            level_BGT = level_BGT.expand(-1, -1, 2)
        spectrum_BG = level_BGT.mean(dim=2)
        deviation_BGT = level_BGT - spectrum_BG[:, :, None]
        return torch.cat(
            [
                spectrum_BG - spectrum_BG.mean(dim=1, keepdim=True),
                _quantiles(deviation_BGT, LEVEL_QUANTILES),
                _quantiles(deviation_BGT.diff(dim=2), CHANGE_QUANTILES),
                _correlations(group_means(deviation_BGT, NUM_CORRELATED)),
                _modulations(deviation_BGT),
            ],
            dim=1,
        )


def _quantiles(value_BGT: Tensor, fractions: tuple[float, ...]) -> Tensor:
    """Return quantiles over time, each the nearest value `[shape=(B, fractions x G)]`."""
    sorted_BGT = _sort(value_BGT)
    last = value_BGT.shape[2] - 1
    return torch.cat([sorted_BGT[:, :, int(fraction * last + 0.5)] for fraction in fractions], dim=1)


def _sort(value_BGT: Tensor) -> Tensor:
    """Return values sorted over time."""
    is_cpu = value_BGT.device.type == "cpu" and not value_BGT.requires_grad
    if is_cpu and not torch.compiler.is_compiling():
        # In a twentieth of torch's time.
        return torch.from_numpy(np.sort(value_BGT.numpy(), axis=2))
    return value_BGT.sort(dim=2).values


def _correlations(deviation_BGT: Tensor) -> Tensor:
    """Return the correlation over time of each pair of bands `[shape=(B, G (G - 1) / 2)]`."""
    variance_BG = deviation_BGT.square().mean(dim=2)
    scaled_BGT = deviation_BGT / (variance_BG + MIN_DEVIATION_DB**2).sqrt()[:, :, None]
    correlation_BGG = scaled_BGT @ scaled_BGT.transpose(1, 2) / deviation_BGT.shape[2]
    rows = [correlation_BGG[:, i, i + 1 :] for i in range(correlation_BGG.shape[1])]
    return torch.cat(rows, dim=1)


def _modulations(deviation_BGT: Tensor) -> Tensor:
    """Return the modulation spectrum in half octaves, and the height of its lines, of groups of bands."""
    # In units of 10 dB, the order of the deviation of a band.
    log_power_BGF = modulation_spectrum(deviation_BGT / 10, NUM_MODULATED)
    none_BG = torch.zeros_like(log_power_BGF[:, :, 0])
    num_frequencies = log_power_BGF.shape[2]
    values = []
    for part in octave_slices(num_frequencies, *LEVEL_OCTAVES):
        power_BGF = log_power_BGF[:, :, part].exp()
        values.append(power_BGF.mean(dim=2).log() if power_BGF.shape[2] else none_BG)
    for part in octave_slices(num_frequencies, *LINE_OCTAVES):
        part_BGF = log_power_BGF[:, :, part]
        values.append(part_BGF.amax(dim=2) - part_BGF.mean(dim=2) if part_BGF.shape[2] else none_BG)
    return torch.cat(values, dim=1)


def octave_slices(num_frequencies: int, count: int, width: float) -> list[slice]:
    """Divide frequencies 1 to `num_frequencies` into parts of a width in octaves, from the highest down.

    The last part has all lower ones; parts without a frequency are empty.
    """
    edges = [int(num_frequencies * 2.0 ** (-width * number)) for number in range(count)]
    return [slice(low, high) for high, low in pairwise([*edges, 0])]
