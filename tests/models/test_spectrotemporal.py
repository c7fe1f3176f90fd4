"""Spectro-temporal modulations, compared with numpy's two-dimensional spectrum and known ripples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from models.modulation import MAX_FRAMES, octave_slices
from models.spectrotemporal import DENSITY_OCTAVES, RATE_OCTAVES, ripple_statistics
from tests.helpers.spectrograms import levels

UP, DOWN = 0, 1


def octaves(statistics_BK: Tensor) -> np.ndarray:
    """Return logarithms of the powers of octaves `[shape=(B, parts, directions, rates, densities)]`."""
    parts_BPX = statistics_BK.double().numpy().reshape(len(statistics_BK), 3, -1)
    logs = parts_BPX[:, :, :-1] + parts_BPX[:, :, -1:]
    return logs.reshape(len(statistics_BK), 3, 2, RATE_OCTAVES, DENSITY_OCTAVES)


def expected_octaves(level_MT: np.ndarray) -> np.ndarray:
    """Return what `octaves` should be for a clip, by a two-dimensional FFT `[shape=(D, R, Q)]`."""
    deviation = level_MT - level_MT.mean(1, keepdims=True)
    deviation -= deviation.mean(0)
    num_bands, num_frames = deviation.shape
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(num_bands) / num_bands)
    window /= np.sqrt((window**2).sum())
    power = np.abs(np.fft.fft2(deviation * window[:, None])) ** 2 / num_frames
    half, rates = num_bands // 2, num_frames // 2
    # A wave cos(k m - f t) moves to higher bands: its frequencies have opposite signs.
    down = power[1 : half + 1, 1 : rates + 1]
    up = power[-np.arange(1, half + 1)][:, 1 : rates + 1]
    result = np.zeros((2, RATE_OCTAVES, DENSITY_OCTAVES))
    for direction, ripples in enumerate((up, down)):
        for q, densities in enumerate(octave_slices(half, DENSITY_OCTAVES, 1.0)):
            for r, part in enumerate(octave_slices(rates, RATE_OCTAVES, 1.0)):
                cells = ripples[densities, part]
                result[direction, r, q] = np.log1p(cells.mean()) if cells.size else 0.0
    return result


@pytest.mark.parametrize(("n_mels", "num_frames"), [(128, 216), (40, 101), (64, 44)])
def test_powers_equal_those_of_a_two_dimensional_fft(n_mels: int, num_frames: int) -> None:
    mel_BMT = levels(2, n_mels, num_frames)
    actual = octaves(ripple_statistics(mel_BMT))
    width = n_mels // 2
    for clip, level_MT in enumerate(mel_BMT.double().numpy()):
        for part, start in enumerate((0, (n_mels - width) // 2, n_mels - width)):
            expected = expected_octaves(level_MT[start : start + width].copy())
            np.testing.assert_allclose(actual[clip, part], expected, atol=1e-3)


def ripple(direction: int, num_frames: int = 216) -> Tensor:
    """Return a ripple of 8 bands and 12 frames, 10 dB high, of 128 bands `[shape=(1, 128, num_frames)]`."""
    phase_MT = torch.arange(128)[:, None] / 8 + (2 * direction - 1) * torch.arange(num_frames) / 12
    return 10 * torch.cos(2 * torch.pi * phase_MT)[None]


@pytest.mark.parametrize("direction", [UP, DOWN])
def test_ripple_is_in_the_octaves_of_its_density_and_rate(direction: int) -> None:
    """8 of 32 densities of half of the bands, and 18 of 108 rates: third octave from the highest of both."""
    (powers,) = octaves(ripple_statistics(ripple(direction)))
    for part in powers:
        highest = np.unravel_index(part.argmax(), part.shape)
        assert highest[0] == direction and highest[1] == 2
        assert highest[2] in (1, 2)
        # Of the other direction there is none.
        assert part[1 - direction].max() < 0.1 < 4 < part.max()


def test_statistics_depend_neither_on_level_nor_on_time_shift() -> None:
    mel_BMT = levels(2, 64, 216)
    statistics_BK = ripple_statistics(mel_BMT)
    for other_BMT in (mel_BMT - 20, mel_BMT.roll(80, dims=2)):
        torch.testing.assert_close(ripple_statistics(other_BMT), statistics_BK, rtol=1e-4, atol=1e-3)


def test_steady_sounds_and_common_changes_have_no_ripples() -> None:
    steady_BMT = levels(1, 64, 1).expand(1, 64, 216)
    common_BMT = levels(1, 1, 216).expand(1, 64, 216)
    for mel_BMT in (steady_BMT, common_BMT, steady_BMT + common_BMT):
        assert ripple_statistics(mel_BMT).abs().max() < 1e-3


def test_long_clips_have_the_mean_of_their_segments() -> None:
    """Segments overlap by half, and their powers are averaged: a repeated clip has those of its part."""
    part_BMT = levels(1, 32, MAX_FRAMES // 2)
    long_BMT = part_BMT.repeat(1, 1, 4)
    torch.testing.assert_close(
        ripple_statistics(long_BMT), ripple_statistics(long_BMT[:, :, :MAX_FRAMES]), rtol=1e-4, atol=1e-3
    )
