"""A head on texture statistics that is trained by itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.classifier import Classifier
from models.settings import ClassifierConfig
from models.texture import TextureHead
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


@pytest.mark.parametrize(
    ("num_classes", "num_features"),
    [(2, 16384), (10, 16384), (64, 16384), (100, 8192), (200, 4096), (5000, 4096)],
)
def test_many_classes_have_fewer_random_features(num_classes: int, num_features: int) -> None:
    head = TextureHead(ClassifierConfig(), 128, num_classes)
    weights = head.layers[1].weight
    assert isinstance(weights, Tensor) and weights.shape == (num_classes, num_features)


def test_random_projections_move_with_the_network() -> None:
    head = TextureHead(SMALL, 16, 3).to("meta")
    assert all(values.is_meta for values in vars(head.features).values() if isinstance(values, Tensor))


@pytest.mark.parametrize(("multi_label", "weight"), [(False, 2 / 3), (True, 0.4)])
def test_logits_are_weighted_mean_of_heads(multi_label: bool, weight: float) -> None:
    model, mel_BMT = Classifier(SMALL, 16, 3, multi_label).eval(), levels(4, 16, 50)
    heads_BHC = model(mel_BMT, separate_heads=True)
    expected_BC = (1 - weight) * heads_BHC[:, 0] + weight * heads_BHC[:, 1]
    torch.testing.assert_close(model(mel_BMT), expected_BC)
    torch.testing.assert_close(model.embed_and_classify(mel_BMT)[1], expected_BC)
    torch.testing.assert_close(heads_BHC[:, 0], model.head(model.embed(mel_BMT)))


def test_single_head_has_no_texture() -> None:
    mel_BMT = levels(4, 16, 50)
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
