"""Ensembles: the mean of the members' calibrated probabilities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.classifier import Classifier, ClassifierConfig
from models.ensemble import Ensemble
from pipeline.classifier.inference import predict_outputs, predict_probabilities

CONFIG = ClassifierConfig(channels=(4,), convs_per_block=1, embedding_dim=8)


def make_members(multi_label: bool) -> list[Classifier]:
    members = []
    for seed, temperature in ((0, 0.5), (1, 1.0), (2, 0.02)):
        torch.manual_seed(seed)
        member = Classifier(CONFIG, 16, 3, multi_label).eval()
        member.temperature = temperature
        members.append(member)
    return members


@pytest.mark.parametrize("multi_label", [False, True])
def test_ensemble_predicts_mean_of_probabilities(multi_label: bool) -> None:
    members = make_members(multi_label)
    mels = np.random.default_rng(0).normal(-40, 10, (5, 16, 30)).astype(np.float16)
    expected = np.mean([predict_probabilities(member, mels) for member in members], axis=0)
    actual = predict_probabilities(Ensemble(members).eval(), mels)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)
    sums = actual.sum(axis=1)
    assert np.allclose(sums, 1, atol=1e-5) == (not multi_label)


@pytest.mark.parametrize("multi_label", [False, True])
def test_outputs_with_embeddings_have_the_same_probabilities(multi_label: bool) -> None:
    members = make_members(multi_label)
    mels = np.random.default_rng(0).normal(-40, 10, (5, 16, 30)).astype(np.float32)
    mels[:, :, 11:] = -100.0  # short clips
    for model in (members[0], Ensemble([members[0], Ensemble(members[1:], temperature=0.5)]).eval()):
        probabilities, embeddings = predict_outputs(model, mels, tta_shifts=3, with_embeddings=True)
        np.testing.assert_allclose(probabilities, predict_probabilities(model, mels, tta_shifts=3), atol=1e-6)
        assert embeddings is not None and embeddings.shape == (5, model.embedding_dim)


def test_similarity_of_clips_is_mean_over_network_texture_and_members() -> None:
    members, mel_BMT = make_members(False), 10 * torch.randn(4, 16, 30) - 40
    ensemble = Ensemble([members[0], Ensemble(members[1:])]).eval()
    with torch.inference_mode():
        parts = [part for model in members for part in (model.embed(mel_BMT), statistics(model, mel_BMT))]
        similarity = [F.normalize(part) @ F.normalize(part).T for part in parts]
        clip_embeddings = [model.embed_and_classify(mel_BMT)[0] for model in (members[0], ensemble)]
    weights = [(0.5, 0.5, 0, 0, 0, 0), (0.25, 0.25, 0.125, 0.125, 0.125, 0.125)]
    for embedding_BK, weight in zip(clip_embeddings, weights, strict=True):
        expected = sum(w * part for w, part in zip(weight, similarity, strict=True))
        torch.testing.assert_close(embedding_BK @ embedding_BK.T, expected)
        torch.testing.assert_close(embedding_BK.norm(dim=1), torch.ones(4))


def statistics(model: Classifier, mel_BMT: Tensor) -> Tensor:
    assert model.texture is not None
    return model.texture.statistics(mel_BMT)


def test_embedding_without_texture_is_that_of_the_network() -> None:
    model = Classifier(CONFIG.model_copy(update={"texture": False}), 16, 3).eval()
    mel_BMT = 10 * torch.randn(4, 16, 30) - 40
    with torch.inference_mode():
        torch.testing.assert_close(model.embed_and_classify(mel_BMT)[0], F.normalize(model.embed(mel_BMT)))
    assert model.embedding_dim == CONFIG.embedding_dim
