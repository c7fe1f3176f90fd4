"""Texture statistics: how the levels of a clip's mel bands are distributed over time and over neighbors.

Sounds without a shape that a clip repeats, such as rain, surf, fire, wind and engines, are recognized by
statistics of their envelopes (McDermott and Simoncelli 2011): how levels are distributed, how fast they
change, which bands change together. Tones are recognized by how far they exceed neighboring bands, and how
steadily.

Shape suffixes: B batch, M mel bands, T frames, G groups of bands, N neighborhoods of W bands, F modulation
frequencies, K statistics.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from models.cached_tensors import cached_tensor
from models.modulation import group_means, modulation_spectrum, octave_means_matrix, octave_slices
from models.precision import float32_only
from models.spectrotemporal import ripple_statistics

# Groups of neighboring bands, whose levels are averaged: for statistics of a band, for correlations between
# bands, and for modulation spectra.
NUM_GROUPS, NUM_CORRELATED, NUM_MODULATED = 40, 20, 8
# Neighboring bands out of which a tone stands: by its mean level, and by its level over time.
NARROW, WIDE = 6, 12
# Levels further below the loudest of the clip are raised to this, in dB: digital silence is no quieter sound.
RANGE_DB = 80.0
# Quantiles of the levels around their mean, of their differences between frames, and of peaks and dips.
LEVEL_QUANTILES = (0.05, 0.25, 0.75, 0.95)
CHANGE_QUANTILES = (0.01, 0.1, 0.9, 0.99)
PEAK_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
# Parts of the modulation spectrum, their number and width in octaves: whose mean power is taken, and whose
# highest line is compared with their mean.
LEVEL_OCTAVES, LINE_OCTAVES = (11, 0.5), (3, 2.0)
# In dB: relative to it, fluctuations of a band are small, and their correlations with those of others noise.
MIN_DEVIATION_DB = 0.1
# Fluctuations from frame to frame are second differences of the levels.
MIN_FRAMES = 3
# Natural logarithm of a power, as a multiple of its level in dB.
LOG_POWER = math.log(10) / 10


def texture_statistics(mel_BMT: Tensor) -> Tensor:
    """Return statistics over time of the levels of a clip, which do not depend on its gain.

    The mean spectrum; quantiles of the levels of each band, and of their changes from frame to frame;
    correlations between bands, of their levels and of their fast fluctuations; the modulation spectrum in
    half octaves, and how far its lines stand out; tones; quantiles of the loudness; ripples over bands and
    time. Their number does not depend on that of the frames.

    Args:
        mel_BMT: spectrograms in dB `[shape=(B, n_mels, num_frames)]`.

    Returns:
        float32 `[shape=(B, K)]`.
    """
    return torch.cat(list(texture_statistics_by_kind(mel_BMT).values()), dim=1)


def texture_statistics_by_kind(mel_BMT: Tensor) -> dict[str, Tensor]:
    """Return the statistics of `texture_statistics` by their kind, in its order."""
    with float32_only(mel_BMT.device):
        mel_BMT = mel_BMT.float()
        mel_BMT = (mel_BMT - mel_BMT.amax(dim=(1, 2), keepdim=True)).clamp(min=-RANGE_DB)
        if (missing := MIN_FRAMES - mel_BMT.shape[2]) > 0:
            mel_BMT = nn.functional.pad(mel_BMT, (0, missing), mode="replicate")
        level_BGT = group_means(mel_BMT, NUM_GROUPS)
        spectrum_BG = level_BGT.mean(dim=2)
        deviation_BGT = level_BGT - spectrum_BG[:, :, None]
        correlated_BGT = group_means(deviation_BGT, NUM_CORRELATED)
        power_BMT = torch.exp(LOG_POWER * mel_BMT)
        return {
            "spectrum": spectrum_BG - spectrum_BG.mean(dim=1, keepdim=True),
            "level quantiles": _level_quantiles(deviation_BGT),
            "correlations": _correlations(correlated_BGT),
            "modulations": _modulations(deviation_BGT),
            # Levels relative to the mean with those before and after.
            "fast correlations": _correlations(correlated_BGT.diff(n=2, dim=2) / 3),
            "peaks": _peaks(mel_BMT),
            "movements": _movements(power_BMT),
            "loudness": _loudness(power_BMT),
            "ripples": ripple_statistics(mel_BMT),
        }


def _level_quantiles(deviation_BGT: Tensor) -> Tensor:
    """Return quantiles of levels around their mean, and of their changes from frame to frame."""
    levels = _quantiles(deviation_BGT, LEVEL_QUANTILES)
    return torch.cat([levels, _quantiles(deviation_BGT.diff(dim=2), CHANGE_QUANTILES)], dim=1)


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
    pairs = cached_tensor(_pair_indices, deviation_BGT.shape[1], deviation_BGT.device)
    return correlation_BGG.flatten(1).index_select(1, pairs)


def _pair_indices(size: int, device: torch.device) -> Tensor:
    """Return the positions of all pairs of different rows and columns in a symmetric matrix, flattened."""
    row, column = torch.triu_indices(size, size, 1, device=device)
    return size * row + column


def _modulations(deviation_BGT: Tensor) -> Tensor:
    """Return the modulation spectrum in half octaves, and the height of its lines, of groups of bands."""
    # In units of 10 dB, the order of the standard deviation of a band.
    log_power_BGF = modulation_spectrum(deviation_BGT / 10, NUM_MODULATED)
    num_frequencies = log_power_BGF.shape[2]
    octaves_FO = cached_tensor(octave_means_matrix, num_frequencies, *LEVEL_OCTAVES, deviation_BGT.device)
    power_BGO = log_power_BGF.exp() @ octaves_FO
    # Octaves without a frequency have no power, and a level of 0.
    level_BGO = torch.where(power_BGO > 0, power_BGO, 1.0).log()
    values = [level_BGO.transpose(1, 2).flatten(1)]
    none_BG = torch.zeros_like(log_power_BGF[:, :, 0])
    for part in octave_slices(num_frequencies, *LINE_OCTAVES):
        part_BGF = log_power_BGF[:, :, part]
        values.append(part_BGF.amax(dim=2) - part_BGF.mean(dim=2) if part_BGF.shape[2] else none_BG)
    return torch.cat(values, dim=1)


def _peaks(mel_BMT: Tensor) -> Tensor:
    """Return how far bands stand out of their neighbors, in dB, and how far they fall behind them.

    The peaks of the mean spectrum; quantiles over time of peaks and dips.
    """
    mean_BNW1 = _neighborhoods(mel_BMT.mean(dim=2, keepdim=True), NARROW)
    mel_BNWT = _neighborhoods(mel_BMT, WIDE)
    mean_BNT = mel_BNWT.mean(dim=2)
    return torch.cat(
        [
            (mean_BNW1.amax(dim=2) - mean_BNW1.mean(dim=2))[:, :, 0],
            _quantiles(mel_BNWT.amax(dim=2) - mean_BNT, PEAK_QUANTILES),
            _quantiles(mean_BNT - mel_BNWT.amin(dim=2), PEAK_QUANTILES),
        ],
        dim=1,
    )


def _movements(power_BMT: Tensor) -> Tensor:
    """Return the mean movement from frame to frame of the center of power of a neighborhood, in bands."""
    power_BNWT = _neighborhoods(power_BMT, NARROW)
    index_W = torch.arange(power_BNWT.shape[2], device=power_BMT.device, dtype=power_BMT.dtype)
    center_BNT = (power_BNWT * index_W[:, None]).sum(dim=2) / power_BNWT.sum(dim=2)
    return center_BNT.diff(dim=2).abs().mean(dim=2)


def _neighborhoods(value_BMT: Tensor, width: int) -> Tensor:
    """Divide bands into neighborhoods `[shape=(B, N, W, T)]`; one of all bands if they are fewer.

    The highest bands, if they fill none, are left out.
    """
    num_bands = value_BMT.shape[1]
    width = min(width, num_bands)
    return value_BMT[:, : num_bands // width * width].unflatten(1, (-1, width))


def _loudness(power_BMT: Tensor) -> Tensor:
    """Return quantiles of the level of all bands together, and of its changes."""
    level_B1T = torch.log(power_BMT.sum(dim=1, keepdim=True)) / LOG_POWER
    return _level_quantiles(level_B1T - level_B1T.mean(dim=2, keepdim=True))
