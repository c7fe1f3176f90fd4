"""Ensembles: the mean of the members' calibrated probabilities."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.classifier import Classifier, ClassifierConfig
from models.ensemble import Ensemble
from pipeline.classifier.inference import predict_outputs, predict_probabilities

CONFIG = ClassifierConfig(channels=(4,), convs_per_block=1, embedding_dim=8)


def make_members(multi_label: bool) -> list[Classifier]:
    members = []
    for seed, temperature in ((0, 0.5), (1, 1.0), (2, 0.02)):
        torch.manual_seed(seed)
        member = Classifier(CONFIG, 16, 3).eval()
        member.temperature, member.multi_label = temperature, multi_label
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
        assert embeddings.shape == (5, model.embedding_dim)
    members[0].texture = None
    _, embedding = predict_outputs(members[0], mels, with_embeddings=True)
    with torch.inference_mode():
        logits = members[0].head(torch.from_numpy(embedding)) / members[0].temperature
    probabilities = (logits.sigmoid() if multi_label else logits.softmax(1)).numpy()
    np.testing.assert_allclose(probabilities, predict_probabilities(members[0], mels), atol=1e-5)
