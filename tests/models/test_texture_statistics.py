"""Texture statistics, compared with numpy's and with what they should say of sounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from models.texture_statistics import (
    CHANGE_QUANTILES,
    LEVEL_QUANTILES,
    NUM_CORRELATED,
    NUM_GROUPS,
    PEAK_QUANTILES,
    texture_statistics,
    texture_statistics_by_kind,
)
from tests.helpers.spectrograms import levels


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
    actual = {kind: values_BK.numpy() for kind, values_BK in texture_statistics_by_kind(mel_BMT).items()}
    level = mel_BMT.numpy().astype(np.float64)
    deviation = level - level.mean(2, keepdims=True)
    spectrum = level.mean(2) - level.mean((1, 2))[:, None]
    np.testing.assert_allclose(actual["spectrum"], spectrum, atol=1e-3)
    np.testing.assert_allclose(actual["level quantiles"], level_quantiles(deviation), atol=1e-3)
    halves = deviation.reshape(3, NUM_CORRELATED, 2, 101).mean(2)
    np.testing.assert_allclose(actual["correlations"], correlations(halves), atol=1e-3)
    # Each level relative to its mean with those before and after.
    fast = halves[:, :, 1:-1] - (halves[:, :, :-2] + halves[:, :, 1:-1] + halves[:, :, 2:]) / 3
    np.testing.assert_allclose(actual["fast correlations"], correlations(fast), atol=1e-3)


def test_statistics_of_tones_and_loudness_equal_those_of_numpy() -> None:
    mel_BMT = levels(3, 50, 101)
    actual = {kind: values_BK.numpy() for kind, values_BK in texture_statistics_by_kind(mel_BMT).items()}
    level = mel_BMT.numpy().astype(np.float64)
    narrow, wide = level[:, :48].reshape(3, 8, 6, 101), level[:, :48].reshape(3, 4, 12, 101)
    mean = narrow.mean(3)
    peaks = quantiles(wide.max(2) - wide.mean(2), PEAK_QUANTILES)
    dips = quantiles(wide.mean(2) - wide.min(2), PEAK_QUANTILES)
    expected = np.concatenate([mean.max(2) - mean.mean(2), peaks, dips], axis=1)
    np.testing.assert_allclose(actual["peaks"], expected, atol=1e-3)
    power = 10 ** (narrow / 10)
    center = np.einsum("bnwt,w->bnt", power, np.arange(6)) / power.sum(2)
    np.testing.assert_allclose(actual["movements"], np.abs(np.diff(center)).mean(2), atol=1e-3)
    loudness = 10 * np.log10((10 ** (level / 10)).sum(1, keepdims=True))
    loudness -= loudness.mean(2, keepdims=True)
    np.testing.assert_allclose(actual["loudness"], level_quantiles(loudness), atol=1e-3)


def test_statistics_depend_neither_on_gain_nor_on_time_shift() -> None:
    mel_BMT = levels(2, 64, 216)
    statistics_BK = texture_statistics(mel_BMT)
    torch.testing.assert_close(texture_statistics(mel_BMT - 12), statistics_BK, rtol=1e-3, atol=1e-3)
    shifted = texture_statistics_by_kind(mel_BMT.roll(80, dims=2))
    for kind, values_BK in texture_statistics_by_kind(mel_BMT).items():
        if kind != "modulations":  # their window sees other frames
            torch.testing.assert_close(shifted[kind], values_BK, rtol=0, atol=1.0)


def hiss() -> Tensor:
    """Return noise of 48 bands `[shape=(1, 48, 216)]`."""
    return torch.randn(1, 48, 216, generator=torch.Generator().manual_seed(0))


def test_crackle_differs_from_hiss_of_equal_spectrum() -> None:
    """In the quantiles of their changes, and in the correlations of their bands, also of fast changes."""
    hiss_BMT = hiss()
    crackle_BMT = hiss_BMT.clone()
    crackle_BMT[:, :, ::27] += 27.0
    crackle_BMT -= crackle_BMT.mean(dim=2, keepdim=True) - hiss_BMT.mean(dim=2, keepdim=True)
    statistics = texture_statistics_by_kind(torch.cat([hiss_BMT, crackle_BMT]))
    hiss_K, crackle_K = statistics["spectrum"]
    torch.testing.assert_close(crackle_K, hiss_K, atol=1e-3, rtol=0)
    # The highest quantile of the changes of each group of bands.
    hiss_G, crackle_G = statistics["level quantiles"][:, -NUM_GROUPS:]
    assert hiss_G.max() < 6 and crackle_G.min() > 15
    for kind in ("correlations", "fast correlations"):
        hiss_K, crackle_K = statistics[kind]
        assert hiss_K.abs().max() < 0.5 and crackle_K.min() > 0.8


def test_slow_swell_is_no_fast_fluctuation() -> None:
    """Waves of a second: levels rise and fall together, what remains from frame to frame does not."""
    swell_BMT = hiss() + 10 * torch.sin(2 * torch.pi / 43 * torch.arange(216))
    statistics = texture_statistics_by_kind(swell_BMT)
    assert statistics["correlations"].min() > 0.8
    assert statistics["fast correlations"].abs().max() < 0.5


def test_tone_stands_out_of_its_neighbors() -> None:
    """Band 20 is in the fourth neighborhood of 6 bands, and in the second of 12."""
    tone_BMT = hiss()
    tone_BMT[:, 20] += 30.0
    (peaks_K,) = texture_statistics_by_kind(tone_BMT)["peaks"]
    lines_N = peaks_K[:8]
    assert lines_N[3] == pytest.approx(25.0, abs=0.5)
    assert torch.cat([lines_N[:3], lines_N[4:]]).max() < 0.5
    peaks_QN = peaks_K[8:].reshape(2, len(PEAK_QUANTILES), 4)[0]
    assert peaks_QN[:, 1].min() > 24 and peaks_QN[:, 0].max() < 5


def test_glide_moves_and_steady_tone_does_not() -> None:
    """A tone that goes up one band in each frame, and begins again after 6."""
    steady_BMT, glide_BMT = hiss(), hiss()
    steady_BMT[:, 20] += 40.0
    frames = torch.arange(216)
    glide_BMT[:, 18 + frames % 6, frames] += 40.0
    steady_N, glide_N = texture_statistics_by_kind(torch.cat([steady_BMT, glide_BMT]))["movements"]
    assert steady_N[3] < 0.01
    # Five movements by one band, then one by five.
    assert glide_N[3] == pytest.approx(10 / 6, abs=0.02)


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
