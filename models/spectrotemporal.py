"""Spectro-temporal modulations: how levels fluctuate over bands and time together (Chi, Ru and Shamma 2005).

The two-dimensional spectrum of a spectrogram consists of ripples: of a density over bands, and of a rate over
time, that move up or down. Harmonics, glides, chirps and clicks have ripples of their own, wherever in the
clip and at whatever pitch they are.

Shape suffixes: B batch, M mel bands of which W are in each of H parts, T frames, S segments of N frames,
C cosine and sine, F rates, K densities, D directions, R octaves of rates, Q octaves of densities, X any
further axis.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.cached_tensors import cached_tensor
from models.modulation import MAX_FRAMES, octave_means_matrix, transform_matrix

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
    rates_FR, densities_KQ = (
        cached_tensor(octave_means_matrix, num_frequencies, count, 1.0, level_BMT.device)
        for num_frequencies, count in ((wave_BSCFM.shape[3], RATE_OCTAVES), (width // 2, DENSITY_OCTAVES))
    )
    wave_BHSCFW = torch.stack([wave_BSCFM[..., start : start + width] for start in starts], dim=1)
    power_BHDRQ = rates_FR.T @ (_ripple_powers(wave_BHSCFW) @ densities_KQ)
    log_power_BHX = torch.log1p(power_BHDRQ / MIN_POWER).flatten(2)
    mean_BH1 = log_power_BHX.mean(dim=2, keepdim=True)
    return torch.cat([log_power_BHX - mean_BH1, mean_BH1], dim=2).flatten(1)


def _waves_over_time(level_BMT: Tensor) -> Tensor:
    """Return cosine and sine parts of the fluctuations of each band `[shape=(B, S, C, F, M)]`.

    Long clips are divided into segments that overlap by half.
    """
    deviation_BMT = level_BMT - level_BMT.mean(dim=2, keepdim=True)
    num_frames = min(level_BMT.shape[2], MAX_FRAMES)
    segment_BSNM = deviation_BMT.unfold(2, num_frames, max(num_frames // 2, 1)).permute(0, 2, 3, 1)
    over_time_NX = cached_tensor(transform_matrix, num_frames, level_BMT.device, False)
    return (over_time_NX.T @ segment_BSNM).unflatten(2, (2, -1))


def _ripple_powers(wave_BHSCFW: Tensor) -> Tensor:
    """Return the power of each ripple, relative to that of noise of 1 dB `[shape=(B, H, D, F, K)]`.

    `wave_BHSCFW` are waves over time, as of `_waves_over_time`, of parts of the bands.
    """
    # What all bands of a part have in common is the loudness.
    wave_BHSCFW = wave_BHSCFW - wave_BHSCFW.mean(dim=5, keepdim=True)
    over_bands_WX = cached_tensor(transform_matrix, wave_BHSCFW.shape[5], wave_BHSCFW.device)
    cos, sin = (wave_BHSCFW @ over_bands_WX).unflatten(5, (2, -1)).unbind(dim=3)
    (cos_cos, cos_sin), (sin_cos, sin_sin) = cos.unbind(dim=4), sin.unbind(dim=4)
    up_BHSFK = (cos_cos + sin_sin).square() + (cos_sin - sin_cos).square()
    down_BHSFK = (cos_cos - sin_sin).square() + (cos_sin + sin_cos).square()
    return torch.stack([up_BHSFK, down_BHSFK], dim=2).mean(dim=3)
