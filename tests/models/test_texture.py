"""A head on texture statistics that is trained by itself."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from models.classifier import Classifier
from models.settings import ClassifierConfig
from models.texture import RandomFeatures, TextureHead
from models.texture_statistics import texture_statistics
from tests.helpers.spectrograms import levels

SMALL = ClassifierConfig(channels=(4, 8), convs_per_block=1, embedding_dim=4, texture=True)


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
    torch.testing.assert_close(kernel_BB, (-difference_BB.square() / 4).exp(), rtol=0, atol=0.03)


def test_random_projections_are_the_same_in_all_networks() -> None:
    """A saved model does not have them."""
    features = RandomFeatures(50, 30)
    assert not features.state_dict() and not list(features.buffers())
    # The first numbers of NumPy's generator with seed 0, since 2006: 0, 1, 1, 0, 1, 1, 1, 1.
    expected = torch.tensor([-1, 1, 1, -1, 1, 1, 1, 1]) / 100**0.5
    torch.testing.assert_close(features._projection_KR[0, :8], expected)
    input_BK = torch.randn(4, 50)
    assert torch.equal(features(input_BK), RandomFeatures(50, 30)(input_BK))
    assert torch.equal(features(input_BK), copy.deepcopy(features)(input_BK))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(features(input_BK), RandomFeatures(50, 30)(input_BK))


def test_random_projections_move_with_the_network() -> None:
    head = TextureHead(SMALL, 16, 3).to("meta")
    assert all(values.is_meta for values in vars(head.features).values() if isinstance(values, Tensor))


def test_logits_are_mean_of_heads() -> None:
    model, mel_BMT = Classifier(SMALL, 16, 3).eval(), levels(4, 16, 50)
    heads_BHC = model(mel_BMT, separate_heads=True)
    torch.testing.assert_close(model(mel_BMT), (heads_BHC[:, 0] + heads_BHC[:, 1]) / 2)
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
