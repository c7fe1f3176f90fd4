"""Spectro-temporal modulations: how levels fluctuate over bands and time together (Chi, Ru and Shamma 2005).

The two-dimensional spectrum of a spectrogram consists of ripples: of a density over bands, and of a rate over
time, that move up or down. Harmonics, glides, chirps and clicks have ripples of their own, wherever in the
clip and at whatever pitch they are.

Shape suffixes: B batch, M mel bands of which W are a part, T frames, S segments of N frames, C cosine and
sine, F rates, K densities, D directions, R octaves of rates, Q octaves of densities, X any further axis.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.cached_tensors import cached_tensor
from models.modulation import MAX_FRAMES, octave_slices, transform_matrix

# Octaves of densities and rates, from the highest down; the last one has all lower ones.
DENSITY_OCTAVES, RATE_OCTAVES = 5, 7
# Bands of a part: half of all, but no fewer than have a ripple of a few bands.
MIN_BANDS = 4
# Of a ripple, in dB² per value: weaker ones do not count.
MIN_POWER = 1.0


def ripple_statistics(level_BMT: Tensor) -> Tensor:
    """Return how strong ripples are in the lower, middle and upper half of the bands, which overlap.

    For each half: the logarithm of the mean power of each octave of densities and rates, of ripples that move
    up and of those that move down, relative to the mean of these logarithms; and this mean. None depends on
    circular time shifts.

    Args:
        level_BMT: spectrograms in dB `[shape=(B, n_mels, num_frames)]`.

    Returns:
        float32 `[shape=(B, 3 (D Q R + 1))]`; 0 for levels that do not change.
    """
    wave_BSCFM = _waves_over_time(level_BMT)
    num_bands = level_BMT.shape[1]
    width = min(max(num_bands // 2, MIN_BANDS), num_bands)
    starts = (0, (num_bands - width) // 2, num_bands - width)
    over_bands_WX = cached_tensor(transform_matrix, width, level_BMT.device)
    rates_FR, densities_KQ = (
        cached_tensor(octave_means_matrix, num_frequencies, count, level_BMT.device)
        for num_frequencies, count in ((wave_BSCFM.shape[3], RATE_OCTAVES), (width // 2, DENSITY_OCTAVES))
    )
    parts = []
    for start in starts:
        power_BDFK = _ripple_powers(wave_BSCFM[..., start : start + width], over_bands_WX)
        power_BDRQ = rates_FR.T @ (power_BDFK @ densities_KQ)
        log_power_BX = torch.log1p(power_BDRQ / MIN_POWER).flatten(1)
        mean_B1 = log_power_BX.mean(dim=1, keepdim=True)
        parts += [log_power_BX - mean_B1, mean_B1]
    return torch.cat(parts, dim=1)


def _waves_over_time(level_BMT: Tensor) -> Tensor:
    """Return cosine and sine parts of the fluctuations of each band `[shape=(B, S, C, F, M)]`.

    Long clips are divided into segments that overlap by half.
    """
    deviation_BMT = level_BMT - level_BMT.mean(dim=2, keepdim=True)
    num_frames = min(level_BMT.shape[2], MAX_FRAMES)
    segment_BSNM = deviation_BMT.unfold(2, num_frames, max(num_frames // 2, 1)).permute(0, 2, 3, 1)
    over_time_NX = cached_tensor(transform_matrix, num_frames, level_BMT.device, False)
    return (over_time_NX.T @ segment_BSNM).unflatten(2, (2, -1))


def _ripple_powers(wave_BSCFW: Tensor, over_bands_WX: Tensor) -> Tensor:
    """Return the power of each ripple, relative to that of noise of 1 dB `[shape=(B, D, F, K)]`.

    Args:
        wave_BSCFW: waves over time of some neighboring bands, as of `_waves_over_time`.
        over_bands_WX: `transform_matrix` of the number of bands.
    """
    # What all bands have in common is the loudness.
    wave_BSCFW = wave_BSCFW - wave_BSCFW.mean(dim=4, keepdim=True)
    cos, sin = (wave_BSCFW @ over_bands_WX).unflatten(4, (2, -1)).unbind(dim=2)
    (cos_cos, cos_sin), (sin_cos, sin_sin) = cos.unbind(dim=3), sin.unbind(dim=3)
    up_BSFK = (cos_cos + sin_sin).square() + (cos_sin - sin_cos).square()
    down_BSFK = (cos_cos - sin_sin).square() + (cos_sin + sin_cos).square()
    return torch.stack([up_BSFK.mean(dim=1), down_BSFK.mean(dim=1)], dim=1)


def octave_means_matrix(num_frequencies: int, count: int, device: torch.device) -> Tensor:
    """Return the matrix whose product with frequencies are the means of octaves, 0 of one without any.

    Octaves are those of `octave_slices` `[shape=(num_frequencies, count)]`.
    """
    frequency_F = torch.arange(num_frequencies, device=device)
    columns = [
        ((frequency_F >= octave.start) & (frequency_F < octave.stop)) / max(octave.stop - octave.start, 1)
        for octave in octave_slices(num_frequencies, count, 1.0)
    ]
    return torch.stack(columns, dim=1)
