"""Modulation spectrum, compared with scipy's periodograms; a hidden repetition is a line in it."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
import torch
from torch import Tensor

from models.cached_tensors import clear_cached_tensors
from models.classifier import Classifier
from models.modulation import (
    MAX_FRAMES,
    MIN_POWER,
    group_means,
    modulation_spectrum,
    octave_means_matrix,
    octave_slices,
)
from models.settings import ClassifierConfig

SMALL = ClassifierConfig(channels=(4, 8), convs_per_block=1, embedding_dim=4, modulation=True)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


@pytest.mark.parametrize("num_frames", [16, 101, 216, MAX_FRAMES])
def test_spectrum_equals_periodogram(num_frames: int) -> None:
    level_BMT = noise(2, 6, num_frames)
    _, power = scipy.signal.periodogram(level_BMT.numpy(), window="hann", return_onesided=False)
    expected = np.log(power[:, :, 1 : num_frames // 2 + 1].reshape(2, 3, 2, -1).mean(2) + MIN_POWER)
    expected -= expected.mean(axis=(1, 2), keepdims=True)
    actual = modulation_spectrum(level_BMT, 3).numpy()
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-3)


def test_spectrum_of_long_clip_is_mean_over_segments() -> None:
    """Welch 1967, with segments that overlap by half."""
    level_BMT = noise(2, 6, 4 * MAX_FRAMES)
    _, power = scipy.signal.welch(
        level_BMT.numpy(), window="hann", nperseg=MAX_FRAMES, return_onesided=False, scaling="density"
    )
    expected = np.log(power[:, :, 1 : MAX_FRAMES // 2 + 1].reshape(2, 3, 2, -1).mean(2) + MIN_POWER)
    expected -= expected.mean(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(modulation_spectrum(level_BMT, 3).numpy(), expected, rtol=1e-3, atol=1e-3)


def test_repetition_below_the_noise_is_a_line() -> None:
    time_T = torch.arange(216)
    rotor_T = 0.4 * torch.cos(2 * torch.pi * 40 / 216 * time_T)
    spectrum_BGF = modulation_spectrum(noise(1, 64, 216) + rotor_T, 8)
    assert (spectrum_BGF.argmax(dim=2) == 39).all(), "frequency 0 is left out"
    shifted_BGF = modulation_spectrum(noise(1, 64, 216).roll(50, 2) + rotor_T.roll(50), 8)
    assert (shifted_BGF.argmax(dim=2) == 39).all()


@pytest.mark.parametrize("num_frames", [1, 2, 15, 216, 700])
def test_constant_level_has_no_modulation(num_frames: int) -> None:
    spectrum_BGF = modulation_spectrum(torch.full((2, 5, num_frames), -80.0), 5)
    torch.testing.assert_close(spectrum_BGF, torch.zeros_like(spectrum_BGF))


def test_spectrum_is_exact_in_half_precision() -> None:
    level_BMT = noise(2, 8, 216)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        in_autocast = modulation_spectrum(level_BMT, 4)
        assert Classifier(SMALL, 8, 3).eval()(level_BMT).isfinite().all()
    assert torch.equal(in_autocast, modulation_spectrum(level_BMT, 4))


def test_spectrum_after_inference_mode_has_gradients() -> None:
    clear_cached_tensors()
    level_BMT = noise(1, 2, 30).requires_grad_()
    with torch.inference_mode():
        modulation_spectrum(level_BMT.detach(), 2)
    modulation_spectrum(level_BMT, 2).square().sum().backward()  # not with a matrix of inference mode
    assert level_BMT.grad is not None


def test_stages_hold_all_weights_in_order() -> None:
    model = Classifier(SMALL, 16, 3)
    names = [name for names in model.stages.values() for name in names]
    statistics = ("mel_mean_M", "mel_std_M", "texture.mean_K", "texture.std_K")
    assert names == [name for name in model.state_dict() if name not in statistics]
    assert list(model.stages)[-3:] == ["modulation", "projection", "head"]


def test_all_weights_of_the_branch_are_trained() -> None:
    # Of an embedding of few values, all may be zero after their ReLU.
    model = Classifier(SMALL.model_copy(update={"embedding_dim": 32}), 16, 3).eval()
    assert model.modulation is not None
    model(noise(2, 16, 40)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.modulation.parameters())


def test_network_without_modulation_has_weights_of_before() -> None:
    former = Classifier(SMALL.model_copy(update={"modulation": False}), 16, 3)
    assert not any(name.startswith("modulation") for name in former.state_dict())
    assert "modulation" not in former.stages and "modulation" in Classifier(SMALL, 16, 3).stages
    assert former.projection[0].in_features == 8


@pytest.mark.parametrize("num_frequencies", [1, 8, 108, 256])
@pytest.mark.parametrize(("count", "width"), [(11, 0.5), (3, 2.0)])
def test_octaves_divide_all_frequencies(num_frequencies: int, count: int, width: float) -> None:
    slices = octave_slices(num_frequencies, count, width)
    parts = [list(range(num_frequencies))[part] for part in slices]
    assert len(parts) == count
    assert sorted(index for part in parts for index in part) == list(range(num_frequencies))
    highest = [index + 1 for index in parts[0]]
    assert all(2**width * frequency > num_frequencies for frequency in highest)


@pytest.mark.parametrize("num_frequencies", [0, 1, 5, 32, 108])
@pytest.mark.parametrize("width", [0.5, 1.0])
def test_octave_means_are_means(num_frequencies: int, width: float) -> None:
    values = torch.arange(num_frequencies).float() ** 2
    means = values @ octave_means_matrix(num_frequencies, 7, width, torch.device("cpu"))
    slices = octave_slices(num_frequencies, 7, width)
    expected = [values[part].mean().item() if len(values[part]) else 0.0 for part in slices]
    assert means.tolist() == pytest.approx(expected)


@pytest.mark.parametrize(("num_bands", "num_groups"), [(128, 40), (40, 40), (7, 3), (2, 8), (1, 1)])
def test_group_means_are_means_of_equal_parts(num_bands: int, num_groups: int) -> None:
    value_BMX = noise(2, num_bands, 5)
    parts = np.array_split(value_BMX.numpy(), min(num_groups, num_bands), axis=1)
    expected = np.stack([part.mean(axis=1) for part in parts], axis=1)
    np.testing.assert_allclose(group_means(value_BMX, num_groups).numpy(), expected, atol=1e-6)
