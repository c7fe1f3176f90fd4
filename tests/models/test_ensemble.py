"""Ensembles: the mean of the members' calibrated probabilities."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.classifier import Classifier, ClassifierConfig
from models.ensemble import Ensemble
from pipeline.classifier.inference import predict_probabilities

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
