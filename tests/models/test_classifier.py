"""The network takes spectrograms of any size, standardises them itself, and knows what it saw."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.classifier import Classifier, ClassifierConfig
from models.config import ConfigError
from pipeline.classifier.inference import predict_probabilities

SMALL = ClassifierConfig(channels=(8, 12), convs_per_block=1, embedding_dim=16)


def small(norm: str = "batch", n_mels: int = 16, classes: int = 3, seed: int = 0) -> Classifier:
    torch.manual_seed(seed)
    return Classifier(SMALL.model_copy(update={"norm": norm}), n_mels, classes)


def some_mels(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 20 - 40


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize(("n_mels", "frames"), [(128, 216), (40, 17), (1, 1), (16, 1), (1, 33), (7, 501)])
def test_shapes(n_mels: int, frames: int, norm: str):
    config = ClassifierConfig(
        channels=(12, 12, 16, 16, 24, 24), convs_per_block=1, embedding_dim=24, norm=norm
    )
    model = Classifier(config, n_mels, 5)
    mel = some_mels(2, n_mels, frames)
    for train in (True, False):
        logits = model.train(train)(mel)
        assert logits.shape == (2, 5) and torch.isfinite(logits).all()
    assert model.embed(mel).shape == (2, 24)
    assert model.eval()(mel[:1]).shape == (1, 5)


def test_every_weight_learns():
    model = small()
    model(some_mels(4, 16, 30)).logsumexp(1).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_statistics_are_part_of_the_weights_and_undo_level_and_range():
    mel = some_mels(4, 16, 30)
    mean, std = torch.linspace(-60, -20, 16), torch.linspace(1, 30, 16)
    plain, wide = small().eval(), small().eval()
    wide.set_statistics(mean, std)
    assert {"mel_mean_M", "mel_std_M"} <= wide.state_dict().keys()
    torch.testing.assert_close(wide(mel * std[:, None] + mean[:, None]), plain(mel), rtol=1e-3, atol=1e-3)
    other = small(seed=1).eval()
    other.load_state_dict(wide.state_dict())
    assert torch.equal(other(mel), wide(mel))


def test_a_band_that_never_changes_does_no_harm():
    model = small().eval()
    model.set_statistics(torch.full((16,), -100.0), torch.zeros(16))
    assert torch.isfinite(model(torch.full((2, 16, 30), -100.0))).all()


def test_the_seed_decides_the_weights():
    mel = some_mels(4, 16, 30)
    assert torch.equal(small().eval()(mel), small().eval()(mel))
    assert not torch.equal(small().eval()(mel), small(seed=1).eval()(mel))


def test_group_norm_does_not_look_at_the_rest_of_the_batch():
    mel = some_mels(6, 16, 30)
    for norm, alone in (("group", True), ("batch", False)):
        model = small(norm).train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        together, apart = model(mel), torch.cat([model(mel[:2]), model(mel[2:])])
        assert torch.allclose(together, apart, atol=1e-5) == alone
    assert not any("running" in name for name in small("group").state_dict())


def test_group_norm_takes_any_number_of_channels():
    for channels in (1, 7, 8, 12, 13, 20):
        model = Classifier(ClassifierConfig(channels=(channels,), embedding_dim=4, norm="group"), 8, 2)
        assert model(some_mels(1, 8, 8)).shape == (1, 2)


def test_time_matters_less_than_what_is_there():
    """A turn in time by what all poolings share changes nothing but the edges."""
    model = small().eval()
    mel = torch.full((1, 16, 64), -40.0)
    mel[:, 5, 24:32] = 20.0
    moved, other = mel.roll(16, dims=2), mel.roll(6, dims=1)
    assert (model.embed(moved) - model.embed(mel)).norm() < 0.1 * (
        model.embed(other) - model.embed(mel)
    ).norm()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"channels": ()}, "'channels'"),
        ({"dropout": 1.0}, "'dropout' = 1.0"),
        ({"norm": "layer"}, "'norm' = 'layer'"),
        ({"convs_per_block": 0}, "'convs_per_block'"),
    ],
)
def test_refused_settings(settings: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        ClassifierConfig(**settings)


def test_probabilities_do_not_depend_on_the_batch():
    model = small().eval()
    mels = some_mels(70, 16, 30).half().numpy()
    together = predict_probabilities(model, mels)
    assert together.shape == (70, 3) and together.dtype == np.float32
    np.testing.assert_allclose(together.sum(axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(
        together[[0, 33, 69]],
        np.concatenate([predict_probabilities(model, mels[i : i + 1]) for i in (0, 33, 69)]),
        atol=1e-6,
    )
    assert predict_probabilities(model, mels[:0]).shape == (0, 3)


def test_averaging_over_turns():
    model, mels = small().eval(), some_mels(3, 16, 30).half().numpy()
    want = np.mean(
        [predict_probabilities(model, np.roll(mels, turn, axis=2)) for turn in (0, 10, 20)], axis=0
    )
    np.testing.assert_allclose(predict_probabilities(model, mels, shifts=3), want, atol=1e-6)
