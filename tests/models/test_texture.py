"""Texture statistics, compared with numpy's; a head on them that is trained by itself."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from models.classifier import Classifier
from models.settings import ClassifierConfig
from models.texture import (
    CHANGE_QUANTILES,
    LEVEL_QUANTILES,
    NUM_CORRELATED,
    NUM_GROUPS,
    TEXTURE_WEIGHT,
    RandomFeatures,
    TextureHead,
    octave_slices,
    texture_statistics,
)

SMALL = ClassifierConfig(channels=(4, 8), convs_per_block=1, embedding_dim=4, texture=True)
NUM_QUANTILES = NUM_GROUPS * (len(LEVEL_QUANTILES) + len(CHANGE_QUANTILES))
# Slices of the statistics of clips with at least 40 bands.
SPECTRUM = slice(0, NUM_GROUPS)
QUANTILES = slice(NUM_GROUPS, NUM_GROUPS + NUM_QUANTILES)
CORRELATIONS = slice(QUANTILES.stop, QUANTILES.stop + NUM_CORRELATED * (NUM_CORRELATED - 1) // 2)


def levels(*shape: int, seed: int = 0) -> Tensor:
    """Return spectrograms in dB, whose neighboring frames and bands resemble each other."""
    noise = np.random.default_rng(seed).normal(size=shape)
    smooth = sum(np.roll(noise, shift, axis=2) for shift in range(5))
    return torch.from_numpy((-40 + smooth + 2 * smooth[:, :1]).astype(np.float32))


def test_statistics_equal_those_of_numpy() -> None:
    mel_BMT = levels(3, NUM_GROUPS, 101)
    actual = texture_statistics(mel_BMT).numpy()
    level = mel_BMT.numpy().astype(np.float64)
    deviation = level - level.mean(2, keepdims=True)
    spectrum = level.mean(2) - level.mean((1, 2))[:, None]
    np.testing.assert_allclose(actual[:, SPECTRUM], spectrum, atol=1e-3)
    quantiles = [
        np.quantile(values, fractions, axis=2, method="nearest").transpose(1, 0, 2).reshape(3, -1)
        for values, fractions in ((deviation, LEVEL_QUANTILES), (np.diff(deviation), CHANGE_QUANTILES))
    ]
    np.testing.assert_allclose(actual[:, QUANTILES], np.concatenate(quantiles, axis=1), atol=1e-3)
    halves = deviation.reshape(3, NUM_CORRELATED, 2, 101).mean(2)
    pairs = np.triu_indices(NUM_CORRELATED, 1)
    expected = [np.corrcoef(clip)[pairs] for clip in halves]
    np.testing.assert_allclose(actual[:, CORRELATIONS], expected, atol=1e-3)


def test_statistics_depend_neither_on_gain_nor_on_time_shift() -> None:
    mel_BMT = levels(2, 64, 216)
    statistics_BK = texture_statistics(mel_BMT)
    torch.testing.assert_close(texture_statistics(mel_BMT - 12), statistics_BK, rtol=1e-3, atol=1e-3)
    shifted_BK = texture_statistics(mel_BMT.roll(80, dims=2))
    # The window of the modulation spectrum sees other frames.
    steady = slice(0, CORRELATIONS.stop)
    torch.testing.assert_close(shifted_BK[:, steady], statistics_BK[:, steady], rtol=0, atol=1.0)


def test_crackle_differs_from_hiss_of_equal_spectrum() -> None:
    """In the quantiles of their changes, and in the correlations of their bands."""
    hiss_BMT = torch.randn(1, 40, 216, generator=torch.Generator().manual_seed(0))
    crackle_BMT = hiss_BMT.clone()
    crackle_BMT[:, :, ::27] += 27.0
    crackle_BMT -= crackle_BMT.mean(dim=2, keepdim=True) - hiss_BMT.mean(dim=2, keepdim=True)
    hiss_K, crackle_K = texture_statistics(torch.cat([hiss_BMT, crackle_BMT]))
    torch.testing.assert_close(crackle_K[SPECTRUM], hiss_K[SPECTRUM], atol=1e-3, rtol=0)
    highest = slice(QUANTILES.stop - NUM_GROUPS, QUANTILES.stop)
    assert hiss_K[highest].max() < 6 and crackle_K[highest].min() > 15
    assert hiss_K[CORRELATIONS].abs().max() < 0.5 and crackle_K[CORRELATIONS].min() > 0.8


@pytest.mark.parametrize(("n_mels", "num_frames"), [(1, 1), (1, 40), (2, 2), (7, 5), (40, 700), (128, 1)])
def test_any_size_has_finite_statistics(n_mels: int, num_frames: int) -> None:
    """As many for one frame as for many, also of silence."""
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


@pytest.mark.parametrize("num_frequencies", [1, 8, 108, 256])
@pytest.mark.parametrize(("count", "width"), [(11, 0.5), (3, 2.0)])
def test_octaves_divide_all_frequencies(num_frequencies: int, count: int, width: float) -> None:
    slices = octave_slices(num_frequencies, count, width)
    parts = [list(range(num_frequencies))[part] for part in slices]
    assert len(parts) == count
    assert sorted(index for part in parts for index in part) == list(range(num_frequencies))
    highest = [index + 1 for index in parts[0]]
    assert all(2**width * frequency > num_frequencies for frequency in highest)


def test_outliers_are_clipped() -> None:
    """A statistic that was constant in training must not decide about a clip in which it is not."""
    head = TextureHead(SMALL, 16, 3).eval()
    mel_BMT = levels(1, 16, 50)
    head.set_statistics(texture_statistics(mel_BMT)[0] - 4, torch.zeros(len(head.mean_K)))
    assert head.std_K.min() > 0
    further = head(mel_BMT)
    head.set_statistics(texture_statistics(mel_BMT)[0] - 4000, torch.zeros(len(head.mean_K)))
    assert torch.equal(head(mel_BMT), further)


def test_random_features_approximate_a_gaussian_kernel() -> None:
    """Rahimi and Recht 2007: the error falls with the root of their number."""
    input_BK = torch.randn(20, 50, generator=torch.Generator().manual_seed(0))
    features_BR = RandomFeatures(50, 40_000)(input_BK)
    difference_BB = torch.cdist(input_BK, input_BK) / 50**0.5
    kernel_BB = 2 * features_BR @ features_BR.T / 40_000
    torch.testing.assert_close(kernel_BB, (-difference_BB.square() / 2).exp(), rtol=0, atol=0.03)


def test_random_projections_are_the_same_in_all_networks() -> None:
    """A saved model does not have them."""
    features = RandomFeatures(50, 30)
    assert not features.state_dict() and not list(features.buffers())
    # The first numbers of NumPy's generator with seed 0, since 2006.
    expected = torch.tensor([1.764052345967664, 0.4001572083672233]) / 50**0.5
    torch.testing.assert_close(features._projection_KR[0, :2], expected)
    input_BK = torch.randn(4, 50)
    assert torch.equal(features(input_BK), RandomFeatures(50, 30)(input_BK))
    assert torch.equal(features(input_BK), copy.deepcopy(features)(input_BK))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(features(input_BK), RandomFeatures(50, 30)(input_BK))


def test_random_projections_move_with_the_network() -> None:
    head = TextureHead(SMALL, 16, 3).to("meta")
    assert head.features._projection_KR.is_meta and head.features._phase_R.is_meta


def test_logits_are_mean_of_heads() -> None:
    model, mel_BMT = Classifier(SMALL, 16, 3).eval(), levels(4, 16, 50)
    heads_BHC = model(mel_BMT, separate_heads=True)
    expected = (1 - TEXTURE_WEIGHT) * heads_BHC[:, 0] + TEXTURE_WEIGHT * heads_BHC[:, 1]
    torch.testing.assert_close(model(mel_BMT), expected)
    torch.testing.assert_close(heads_BHC[:, 0], model.head(model.embed(mel_BMT)))
    single = Classifier(SMALL.model_copy(update={"texture": False}), 16, 3).eval()
    assert single(mel_BMT, separate_heads=True).shape == (4, 1, 3)
    assert not any(name.startswith("texture") for name in single.state_dict())


def test_short_clips_are_repeated_for_both_heads() -> None:
    model = Classifier(SMALL, 16, 3).eval()
    mel_BMT = levels(2, 16, 60)
    padded_BMT = mel_BMT.clone()
    padded_BMT[:, :, 30:] = mel_BMT.amin() - 60
    repeated_BMT = torch.cat([mel_BMT[:, :, :30]] * 2, dim=2)
    torch.testing.assert_close(
        model(padded_BMT, separate_heads=True), model(repeated_BMT, is_repeated=True, separate_heads=True)
    )
