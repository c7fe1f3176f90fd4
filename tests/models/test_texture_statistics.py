"""Texture statistics, compared with numpy's and with what they should say of sounds."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from models.spectrotemporal import DENSITY_OCTAVES, RATE_OCTAVES
from models.texture_statistics import (
    CHANGE_QUANTILES,
    LEVEL_QUANTILES,
    NARROW,
    NUM_CORRELATED,
    NUM_GROUPS,
    PEAK_QUANTILES,
    WIDE,
    texture_statistics,
)
from tests.helpers.spectrograms import levels

QUANTILES_OF_A_BAND = len(LEVEL_QUANTILES) + len(CHANGE_QUANTILES)
# Of both directions, and their mean, for each of three halves of the bands.
NUM_RIPPLES = 3 * (2 * DENSITY_OCTAVES * RATE_OCTAVES + 1)
NUM_PAIRS = NUM_CORRELATED * (NUM_CORRELATED - 1) // 2
# Slices of the statistics of clips with at least 40 bands.
SPECTRUM = slice(0, NUM_GROUPS)
QUANTILES = slice(NUM_GROUPS, NUM_GROUPS * (1 + QUANTILES_OF_A_BAND))
CORRELATIONS = slice(QUANTILES.stop, QUANTILES.stop + NUM_PAIRS)


class Last:
    """Slices of statistics between modulation spectrum and ripples, of clips with `n_mels` bands."""

    def __init__(self, n_mels: int):
        narrow, wide = n_mels // NARROW, n_mels // WIDE
        sizes = (NUM_PAIRS, narrow, 2 * wide * len(PEAK_QUANTILES), narrow, QUANTILES_OF_A_BAND)
        edges = [int(edge) for edge in np.cumsum([0, *sizes]) - sum(sizes) - NUM_RIPPLES]
        pairs = pairwise(edges)
        self.fast, self.lines, self.peaks, self.movements, self.loudness = (slice(*pair) for pair in pairs)


def quantiles(value: np.ndarray, fractions: tuple[float, ...]) -> np.ndarray:
    """Return quantiles over time `[shape=(B, fractions x G)]`."""
    found = np.quantile(value, fractions, axis=2, method="nearest")
    return found.transpose(1, 0, 2).reshape(len(value), -1)


def level_quantiles(deviation: np.ndarray) -> np.ndarray:
    changes = quantiles(np.diff(deviation), CHANGE_QUANTILES)
    return np.concatenate([quantiles(deviation, LEVEL_QUANTILES), changes], axis=1)


def correlations(value: np.ndarray) -> np.ndarray:
    """Return the correlations of all pairs of bands, with noise of 0.1 dB added to each."""
    covariances = np.array([np.cov(clip, ddof=0) for clip in value])
    deviations = np.sqrt(np.diagonal(covariances, axis1=1, axis2=2) + 0.1**2)
    first, second = np.triu_indices(value.shape[1], 1)
    return covariances[:, first, second] / (deviations[:, first] * deviations[:, second])


def test_statistics_over_time_equal_those_of_numpy() -> None:
    mel_BMT = levels(3, NUM_GROUPS, 101)
    actual = texture_statistics(mel_BMT).numpy()
    level = mel_BMT.numpy().astype(np.float64)
    deviation = level - level.mean(2, keepdims=True)
    spectrum = level.mean(2) - level.mean((1, 2))[:, None]
    np.testing.assert_allclose(actual[:, SPECTRUM], spectrum, atol=1e-3)
    np.testing.assert_allclose(actual[:, QUANTILES], level_quantiles(deviation), atol=1e-3)
    halves = deviation.reshape(3, NUM_CORRELATED, 2, 101).mean(2)
    np.testing.assert_allclose(actual[:, CORRELATIONS], correlations(halves), atol=1e-3)
    # Each level relative to its mean with those before and after.
    fast = halves[:, :, 1:-1] - (halves[:, :, :-2] + halves[:, :, 1:-1] + halves[:, :, 2:]) / 3
    np.testing.assert_allclose(actual[:, Last(40).fast], correlations(fast), atol=1e-3)


def test_statistics_of_tones_and_loudness_equal_those_of_numpy() -> None:
    mel_BMT = levels(3, 50, 101)
    actual, last = texture_statistics(mel_BMT).numpy(), Last(50)
    level = mel_BMT.numpy().astype(np.float64)
    narrow, wide = level[:, :48].reshape(3, 8, 6, 101), level[:, :48].reshape(3, 4, 12, 101)
    mean = narrow.mean(3)
    np.testing.assert_allclose(actual[:, last.lines], mean.max(2) - mean.mean(2), atol=1e-3)
    peaks = quantiles(wide.max(2) - wide.mean(2), PEAK_QUANTILES)
    dips = quantiles(wide.mean(2) - wide.min(2), PEAK_QUANTILES)
    np.testing.assert_allclose(actual[:, last.peaks], np.concatenate([peaks, dips], axis=1), atol=1e-3)
    power = 10 ** (narrow / 10)
    center = np.einsum("bnwt,w->bnt", power, np.arange(6)) / power.sum(2)
    np.testing.assert_allclose(actual[:, last.movements], np.abs(np.diff(center)).mean(2), atol=1e-3)
    loudness = 10 * np.log10((10 ** (level / 10)).sum(1, keepdims=True))
    loudness -= loudness.mean(2, keepdims=True)
    np.testing.assert_allclose(actual[:, last.loudness], level_quantiles(loudness), atol=1e-3)


def test_statistics_depend_neither_on_gain_nor_on_time_shift() -> None:
    mel_BMT = levels(2, 64, 216)
    statistics_BK = texture_statistics(mel_BMT)
    torch.testing.assert_close(texture_statistics(mel_BMT - 12), statistics_BK, rtol=1e-3, atol=1e-3)
    shifted_BK = texture_statistics(mel_BMT.roll(80, dims=2))
    # The window of the modulation spectrum sees other frames.
    last = slice(Last(64).fast.start, None)
    for steady in (slice(0, CORRELATIONS.stop), last):
        torch.testing.assert_close(shifted_BK[:, steady], statistics_BK[:, steady], rtol=0, atol=1.0)


def hiss() -> Tensor:
    """Return noise of 48 bands `[shape=(1, 48, 216)]`."""
    return torch.randn(1, 48, 216, generator=torch.Generator().manual_seed(0))


def test_crackle_differs_from_hiss_of_equal_spectrum() -> None:
    """In the quantiles of their changes, and in the correlations of their bands, also of fast changes."""
    hiss_BMT = hiss()
    crackle_BMT = hiss_BMT.clone()
    crackle_BMT[:, :, ::27] += 27.0
    crackle_BMT -= crackle_BMT.mean(dim=2, keepdim=True) - hiss_BMT.mean(dim=2, keepdim=True)
    hiss_K, crackle_K = texture_statistics(torch.cat([hiss_BMT, crackle_BMT]))
    torch.testing.assert_close(crackle_K[SPECTRUM], hiss_K[SPECTRUM], atol=1e-3, rtol=0)
    highest = slice(QUANTILES.stop - NUM_GROUPS, QUANTILES.stop)
    assert hiss_K[highest].max() < 6 and crackle_K[highest].min() > 15
    for pairs in (CORRELATIONS, Last(48).fast):
        assert hiss_K[pairs].abs().max() < 0.5 and crackle_K[pairs].min() > 0.8


def test_slow_swell_is_no_fast_fluctuation() -> None:
    """Waves of a second: levels rise and fall together, what remains from frame to frame does not."""
    swell_BMT = hiss() + 10 * torch.sin(2 * torch.pi / 43 * torch.arange(216))
    (statistics_K,) = texture_statistics(swell_BMT)
    assert statistics_K[CORRELATIONS].min() > 0.8
    assert statistics_K[Last(48).fast].abs().max() < 0.5


def test_tone_stands_out_of_its_neighbors() -> None:
    """Band 20 is in the fourth neighborhood of 6 bands, and in the second of 12."""
    tone_BMT = hiss()
    tone_BMT[:, 20] += 30.0
    (statistics_K,) = texture_statistics(tone_BMT)
    lines_N = statistics_K[Last(48).lines]
    assert lines_N[3] == pytest.approx(25.0, abs=0.5)
    assert torch.cat([lines_N[:3], lines_N[4:]]).max() < 0.5
    peaks_QN = statistics_K[Last(48).peaks].reshape(2, len(PEAK_QUANTILES), 4)[0]
    assert peaks_QN[:, 1].min() > 24 and peaks_QN[:, 0].max() < 5


def test_glide_moves_and_steady_tone_does_not() -> None:
    """A tone that goes up one band in each frame, and begins again after 6."""
    steady_BMT, glide_BMT = hiss(), hiss()
    steady_BMT[:, 20] += 40.0
    frames = torch.arange(216)
    glide_BMT[:, 18 + frames % 6, frames] += 40.0
    steady_K, glide_K = texture_statistics(torch.cat([steady_BMT, glide_BMT]))
    assert steady_K[Last(48).movements][3] < 0.01
    # Five movements by one band, then one by five.
    assert glide_K[Last(48).movements][3] == pytest.approx(10 / 6, abs=0.02)


@pytest.mark.parametrize("n_mels", [1, 2, 7, 40, 128])
@pytest.mark.parametrize("num_frames", [1, 2, 3, 40, 700])
def test_any_size_has_finite_statistics(n_mels: int, num_frames: int) -> None:
    """The same number for one frame and for many, also of silence."""
    silence, noise = torch.full((2, n_mels, num_frames), -80.0), levels(2, n_mels, num_frames)
    for mel_BMT in (silence, noise):
        statistics_BK = texture_statistics(mel_BMT)
        assert statistics_BK.isfinite().all()
        assert statistics_BK.shape == (2, texture_statistics(levels(1, n_mels, 50)).shape[1])
    assert texture_statistics(silence).abs().max() < 1e-5


def test_statistics_are_the_same_with_gradients_and_in_half_precision() -> None:
    """Values are sorted by another function where gradients are needed."""
    mel_BMT = levels(2, 48, 60)
    expected = texture_statistics(mel_BMT)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(texture_statistics(mel_BMT), expected)
    tracked_BMT = mel_BMT.clone().requires_grad_()
    with_gradient = texture_statistics(tracked_BMT)
    assert torch.equal(with_gradient, expected)
    with_gradient.square().sum().backward()
    assert tracked_BMT.grad is not None and tracked_BMT.grad.isfinite().all()
