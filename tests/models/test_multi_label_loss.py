"""Multi-label loss: binary cross-entropy, label smoothing, class weights and focal loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from models.calibration import TEMPERATURES, best_temperature, binary_likelihood_at_temperatures
from models.multi_label_loss import (
    MAX_POSITIVE_WEIGHT,
    multi_label_loss,
    positive_weights,
    smooth_targets,
)


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(8, 4, generator=torch.Generator().manual_seed(0)) * 3


@pytest.fixture
def targets() -> torch.Tensor:
    return (torch.rand(8, 4, generator=torch.Generator().manual_seed(1)) < 0.4).float()


def test_loss_is_mean_binary_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> None:
    loss_B = multi_label_loss(logits, targets)
    assert loss_B.shape == (8,)
    torch.testing.assert_close(loss_B.mean(), F.binary_cross_entropy_with_logits(logits, targets))
    background = multi_label_loss(torch.full((1, 4), -20.0), torch.zeros(1, 4))
    assert background.item() < 1e-6


def test_smoothing_keeps_frequency_of_classes(targets: torch.Tensor) -> None:
    prior = targets.mean(dim=0)
    smooth = smooth_targets(targets, prior, 0.2)
    torch.testing.assert_close(smooth.mean(dim=0), prior)
    torch.testing.assert_close(smooth, 0.8 * targets + 0.2 * prior)
    torch.testing.assert_close(smooth_targets(targets, prior, 0.0), targets)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_loss_equals_definition_of_lin(
    gamma: float, logits: torch.Tensor, targets: torch.Tensor
) -> None:
    p = logits.sigmoid()
    p_true = torch.where(targets > 0.5, p, 1 - p)
    expected = (-((1 - p_true) ** gamma) * p_true.log()).mean(dim=1)
    torch.testing.assert_close(multi_label_loss(logits, targets, focal_gamma=gamma), expected)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_is_lowest_at_soft_target(gamma: float) -> None:
    logit = torch.logit(torch.tensor(0.3)).reshape(1, 1).requires_grad_()
    multi_label_loss(logit, torch.tensor([[0.3]]), focal_gamma=gamma).sum().backward()
    assert logit.grad is not None and torch.isfinite(logit.grad).all()
    assert abs(logit.grad.item()) < 1e-5


def test_weights_balance_classes_within_bounds() -> None:
    weights = positive_weights(np.array([50, 20, 1, 0, 99]), 100)
    np.testing.assert_allclose(weights, [1, 4, MAX_POSITIVE_WEIGHT, MAX_POSITIVE_WEIGHT, 0.1])
    # Of a class in 20 of 100 clips, present and absent clips weigh the same.
    targets = torch.zeros(100, 1)
    targets[:20] = 1
    loss = multi_label_loss(torch.zeros(100, 1), targets, torch.from_numpy(weights[1:2]))
    torch.testing.assert_close(loss[:20].sum(), loss[20:].sum())


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 3.0])
def test_temperature_of_sigmoids_is_found(true_temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    calibrated = torch.randn(20_000, 2, generator=generator) * 2
    targets = (torch.rand(20_000, 2, generator=generator) < calibrated.sigmoid()).float()
    likelihood = binary_likelihood_at_temperatures(calibrated * true_temperature, targets)
    assert likelihood.shape == (len(TEMPERATURES),)
    assert best_temperature(likelihood.numpy()) == pytest.approx(true_temperature, rel=0.1)
