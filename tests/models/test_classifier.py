"""The classifier takes spectrograms of any size, normalizes them, and does not depend on the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.classifier import Classifier, ClassifierConfig
from models.config import ConfigError
from pipeline.classifier.inference import predict_probabilities

SMALL = ClassifierConfig(channels=(8, 12), convs_per_block=1, embedding_dim=16)


def small_model(norm: str = "batch", n_mels: int = 16, classes: int = 3, seed: int = 0) -> Classifier:
    torch.manual_seed(seed)
    return Classifier(SMALL.model_copy(update={"norm": norm}), n_mels, classes)


def random_mels(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 20 - 40


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize(("n_mels", "frames"), [(128, 216), (40, 17), (1, 1), (16, 1), (1, 33), (7, 501)])
def test_output_shapes_for_any_input_size(n_mels: int, frames: int, norm: str):
    config = ClassifierConfig(
        channels=(12, 12, 16, 16, 24, 24), convs_per_block=1, embedding_dim=24, norm=norm
    )
    model = Classifier(config, n_mels, 5)
    mel = random_mels(2, n_mels, frames)
    for train in (True, False):
        logits = model.train(train)(mel)
        assert logits.shape == (2, 5) and torch.isfinite(logits).all()
    assert model.embed(mel).shape == (2, 24)
    assert model.eval()(mel[:1]).shape == (1, 5)


def test_every_parameter_has_gradient():
    model = small_model()
    model(random_mels(4, 16, 30)).logsumexp(1).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_statistics_are_saved_and_normalize_input():
    mel = random_mels(4, 16, 30)
    mean, std = torch.linspace(-60, -20, 16), torch.linspace(1, 30, 16)
    plain, scaled = small_model().eval(), small_model().eval()
    scaled.set_statistics(mean, std)
    assert {"mel_mean_M", "mel_std_M"} <= scaled.state_dict().keys()
    embeddings = scaled.embed(mel * std[:, None] + mean[:, None]), plain.embed(mel)
    torch.testing.assert_close(*embeddings, rtol=1e-3, atol=1e-3)
    loaded = small_model(seed=1).eval()
    loaded.load_state_dict(scaled.state_dict())
    assert torch.equal(loaded(mel), scaled(mel))


def test_constant_mel_band_gives_finite_output():
    model = small_model().eval()
    model.set_statistics(torch.full((16,), -100.0), torch.zeros(16))
    assert torch.isfinite(model(torch.full((2, 16, 30), -100.0))).all()


def test_seed_determines_weights():
    mel = random_mels(4, 16, 30)
    assert torch.equal(small_model().eval()(mel), small_model().eval()(mel))
    assert not torch.equal(small_model().eval()(mel), small_model(seed=1).eval()(mel))


@pytest.mark.parametrize(("norm", "independent"), [("group", True), ("batch", False)])
def test_group_norm_is_independent_of_batch(norm: str, independent: bool):
    mel = random_mels(6, 16, 30)
    model = small_model(norm).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    whole, halves = model(mel), torch.cat([model(mel[:2]), model(mel[2:])])
    assert torch.allclose(whole, halves, atol=1e-5) == independent
    assert any("running" in name for name in model.state_dict()) != independent


@pytest.mark.parametrize("channels", [1, 7, 8, 12, 13, 20])
def test_group_norm_accepts_any_channels(channels: int):
    model = Classifier(ClassifierConfig(channels=(channels,), embedding_dim=4, norm="group"), 8, 2)
    assert model(random_mels(1, 8, 8)).shape == (1, 2)


def test_embedding_is_nearly_invariant_to_time_shift():
    """A circular shift by a multiple of the total stride changes the edges only."""
    torch.manual_seed(0)
    model = Classifier(SMALL.model_copy(update={"padding": "silence"}), 16, 3).eval()
    mel = torch.full((1, 16, 64), -40.0)
    mel[:, 5, 24:32] = 20.0
    shifted, transposed = mel.roll(16, dims=2), mel.roll(6, dims=1)
    time_distance = (model.embed(shifted) - model.embed(mel)).norm()
    pitch_distance = (model.embed(transposed) - model.embed(mel)).norm()
    assert time_distance < 0.1 * pitch_distance


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"channels": ()}, "'channels'"),
        ({"dropout": 1.0}, "'dropout' = 1.0"),
        ({"norm": "layer"}, "'norm' = 'layer'"),
        ({"convs_per_block": 0}, "'convs_per_block'"),
    ],
)
def test_invalid_settings_raise(settings: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        ClassifierConfig(**settings)


def test_probabilities_are_independent_of_batch():
    model = small_model().eval()
    mels = random_mels(70, 16, 30).half().numpy()
    batched = predict_probabilities(model, mels)
    assert batched.shape == (70, 3) and batched.dtype == np.float32
    np.testing.assert_allclose(batched.sum(axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(
        batched[[0, 33, 69]],
        np.concatenate([predict_probabilities(model, mels[i : i + 1]) for i in (0, 33, 69)]),
        atol=1e-6,
    )
    assert predict_probabilities(model, mels[:0]).shape == (0, 3)


def test_tta_averages_over_time_shifts():
    model, mels = small_model().eval(), random_mels(3, 16, 30).half().numpy()
    expected = np.mean(
        [predict_probabilities(model, np.roll(mels, shift, axis=2)) for shift in (0, 10, 20)], axis=0
    )
    np.testing.assert_allclose(predict_probabilities(model, mels, tta_shifts=3), expected, atol=1e-6)
