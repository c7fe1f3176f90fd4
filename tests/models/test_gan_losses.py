"""Losses against values by hand, signs of gradients, and the gradient penalty against finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from models.gan_losses import LossName, discriminator_loss, diversity_loss, generator_loss, gradient_penalty

NAMES: tuple[LossName, ...] = get_args(LossName)
REAL, FAKE = [2.0, -1.0], [0.5, 3.0]
B, M, T = 3, 4, 5
STD = torch.tensor([1.0, 0.5, 2.0, 3.0], dtype=torch.float64)


def softplus(value: float) -> float:
    return math.log1p(math.exp(value))


def random_scores(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return real and fake scores within the margins of the hinge loss, where every loss has a gradient."""
    real_B, fake_B = (
        1.8 * torch.rand(2, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 0.9
    )
    return real_B.requires_grad_(), fake_B.requires_grad_()


@pytest.mark.parametrize(
    ("name", "expected_discriminator", "expected_generator"),
    [
        ("relativistic", (softplus(-1.5) + softplus(4.0)) / 2, (softplus(1.5) + softplus(-4.0)) / 2),
        ("hinge", (0.0 + 2.0) / 2 + (1.5 + 4.0) / 2, -1.75),
        (
            "non-saturating",
            (softplus(-2.0) + softplus(1.0) + softplus(0.5) + softplus(3.0)) / 2,
            (softplus(-0.5) + softplus(-3.0)) / 2,
        ),
    ],
)
def test_losses_match_values_by_hand(
    name: LossName, expected_discriminator: float, expected_generator: float
) -> None:
    real_B, fake_B = torch.tensor(REAL), torch.tensor(FAKE)
    assert float(discriminator_loss(name, real_B, fake_B)) == pytest.approx(expected_discriminator, rel=1e-6)
    assert float(generator_loss(name, fake_B, real_B)) == pytest.approx(expected_generator, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "equal_scores_loss"),
    [("relativistic", math.log(2)), ("hinge", 2.0), ("non-saturating", 2 * math.log(2))],
    ids=NAMES,
)
def test_discriminator_loss_for_equal_and_separated_scores(name: LossName, equal_scores_loss: float) -> None:
    equal = discriminator_loss(name, torch.zeros(4), torch.zeros(4))
    separated = discriminator_loss(name, torch.full((4,), 30.0), torch.full((4,), -30.0))
    assert float(equal) == pytest.approx(equal_scores_loss)
    assert float(separated) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_only_relativistic_loss_ignores_constant_offset(name: LossName) -> None:
    real_B, fake_B = (scores_B.detach() for scores_B in random_scores())
    for loss, offset_loss in (
        (discriminator_loss(name, real_B, fake_B), discriminator_loss(name, real_B + 3, fake_B + 3)),
        (generator_loss(name, fake_B, real_B), generator_loss(name, fake_B + 3, real_B + 3)),
    ):
        assert math.isclose(float(loss), float(offset_loss), rel_tol=1e-9) == (name == "relativistic")


@pytest.mark.parametrize("name", NAMES)
def test_only_relativistic_generator_loss_uses_real_scores(name: LossName) -> None:
    real_B, fake_B = random_scores()
    is_equal = torch.equal(generator_loss(name, fake_B, real_B), generator_loss(name, fake_B, real_B + 1))
    assert is_equal == (name != "relativistic")


@pytest.mark.parametrize("name", NAMES)
def test_discriminator_step_raises_real_lowers_fake(name: LossName) -> None:
    real_B, fake_B = random_scores()
    loss = discriminator_loss(name, real_B, fake_B)
    loss.backward()
    assert (real_B.grad < 0).all() and (fake_B.grad > 0).all()  # type: ignore[operator]
    stepped = discriminator_loss(name, real_B - 0.1 * real_B.grad, fake_B - 0.1 * fake_B.grad)  # type: ignore[operator]
    assert stepped < loss


@pytest.mark.parametrize("name", NAMES)
def test_generator_step_raises_fake_scores(name: LossName) -> None:
    """The step lowers the loss of the generator and raises that of the discriminator."""
    real_B, fake_B = random_scores()
    loss = generator_loss(name, fake_B, real_B.detach())
    loss.backward()
    assert (fake_B.grad < 0).all()  # type: ignore[operator]
    stepped_B = fake_B - 0.1 * fake_B.grad  # type: ignore[operator]
    assert generator_loss(name, stepped_B, real_B) < loss
    assert discriminator_loss(name, real_B, stepped_B) > discriminator_loss(name, real_B, fake_B)


@pytest.mark.parametrize("name", NAMES)
def test_generator_gradient_does_not_vanish(name: LossName) -> None:
    """Extreme scores, a perfect discriminator, neither saturate the gradient nor overflow."""
    fake_B = torch.full((2,), -1000.0, requires_grad=True)
    loss = generator_loss(name, fake_B, torch.full((2,), 1000.0))
    loss.backward()
    assert loss.isfinite() and torch.equal(fake_B.grad, torch.full((2,), -0.5))  # type: ignore[arg-type]
    assert discriminator_loss(name, fake_B, -fake_B).isfinite()


def small_net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(M * T, 6), nn.Tanh(), nn.Linear(6, 1), nn.Flatten(0)
    ).double()


def random_mels(seed: int = 0) -> Tensor:
    return torch.randn(B, M, T, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def finite_differences(score: Callable[[Tensor], Tensor], mel_BMT: Tensor, step: float = 1e-5) -> Tensor:
    gradient = torch.zeros_like(mel_BMT)
    for band in range(mel_BMT.shape[1]):
        for frame in range(mel_BMT.shape[2]):
            offset = torch.zeros_like(mel_BMT)
            offset[:, band, frame] = step
            gradient[:, band, frame] = (score(mel_BMT + offset) - score(mel_BMT - offset)) / (2 * step)
    return gradient


def test_penalty_matches_finite_differences() -> None:
    score, mel = small_net(), random_mels()
    with torch.no_grad():
        gradient = finite_differences(score, mel)
    penalty = gradient_penalty(score, mel, STD)
    assert penalty.shape == (B,)
    torch.testing.assert_close(
        penalty.detach().double(),
        0.5 * (gradient * STD[:, None]).square().sum(dim=(1, 2)),
        rtol=1e-6,
        atol=1e-9,
    )


def test_penalty_gradient_matches_finite_differences() -> None:
    score, mel, step = small_net(), random_mels(), 1e-3
    gradient_penalty(score, mel, STD).sum().backward()
    assert sum(weight.numel() for weight in score.parameters()) == 20 * 6 + 6 + 6 + 1
    for name, weight in score.named_parameters():
        expected = torch.zeros_like(weight)
        for i in range(weight.numel()):
            values = []
            for sign in (1, -1):
                with torch.no_grad():
                    weight.view(-1)[i] += sign * step
                values.append(gradient_penalty(score, mel, STD).sum().item())
                with torch.no_grad():
                    weight.view(-1)[i] -= sign * step
            expected.view(-1)[i] = (values[0] - values[1]) / (2 * step)
        # The last bias adds a constant to the score and has no gradient.
        gradient = torch.zeros_like(weight) if weight.grad is None else weight.grad
        torch.testing.assert_close(
            gradient, expected, rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )
        assert (gradient.abs().max() > 0.01) == (name != "3.bias")


def test_penalty_of_linear_score_is_constant() -> None:
    weight = torch.randn(M, T, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = 0.5 * (weight * STD[:, None]).square().sum()
    for mel in (random_mels(), 100 * random_mels(1)):
        penalty = gradient_penalty(lambda x: (x * weight).sum(dim=(1, 2)), mel, STD)
        torch.testing.assert_close(penalty.double(), expected.expand(B), rtol=1e-6, atol=0.0)


def test_penalty_scales_with_std_squared_and_adds_bands() -> None:
    score, mel = small_net(), random_mels()
    penalty = gradient_penalty(score, mel, STD)
    torch.testing.assert_close(gradient_penalty(score, mel, 2 * STD), 4 * penalty)
    band_penalties = [
        gradient_penalty(score, mel, STD * torch.eye(M, dtype=torch.float64)[band]) for band in range(M)
    ]
    assert all((band_penalty > 0).all() for band_penalty in band_penalties)
    torch.testing.assert_close(torch.stack(band_penalties).sum(dim=0), penalty)
    # Scaled spectrograms with scaled standard deviations have the same penalty.
    torch.testing.assert_close(gradient_penalty(lambda x: score(x / 7), 7 * mel, 7 * STD), penalty)


def test_penalty_is_independent_of_batch() -> None:
    score, mel = small_net(), random_mels()
    penalty = gradient_penalty(score, mel, STD)
    torch.testing.assert_close(
        torch.cat([gradient_penalty(score, mel[i : i + 1], STD) for i in range(B)]), penalty
    )
    assert len(set(penalty.tolist())) == B


def test_penalty_has_no_gradient_for_spectrograms() -> None:
    score, mel = small_net(), random_mels().requires_grad_()
    gradient_penalty(score, 2 * mel, STD).sum().backward()
    assert mel.grad is None
    plain = random_mels()
    gradient_penalty(score, plain, STD)
    assert not plain.requires_grad


def test_diversity_loss_is_hinge_relative_to_real_difference() -> None:
    std_M = torch.tensor([10.0, 20.0])
    first = torch.zeros(3, 2, 4)
    # Differences in units of std: 0, 0.5 and 3 in every value.
    second = torch.stack(
        [torch.zeros(2, 4), 0.5 * std_M[:, None].expand(2, 4), 3 * std_M[:, None].expand(2, 4)]
    )
    for real, expected in [
        ([1.0] * 3, [1.0, 0.5, 0.0]),
        ([0.5] * 3, [1.0, 0.0, 0.0]),
        ([1, 2, 4], [1, 0.75, 0.25]),
    ]:
        loss = diversity_loss(first, second, std_M, torch.tensor(real))
        assert float(loss) == pytest.approx(sum(expected) / 3)


def test_classes_whose_real_clips_do_not_differ_have_no_diversity_loss() -> None:
    first = torch.zeros(3, 3, 4, requires_grad=True)
    second = torch.tensor([0.5, 0.0, 0.2])[:, None, None].expand(3, 3, 4)
    loss = diversity_loss(first, second, torch.ones(3), torch.tensor([1.0, 0.0, 0.0]))
    loss.backward()
    assert loss.item() == pytest.approx(0.5 / 3)
    assert first.grad is not None and first.grad.isfinite().all() and first.grad[1:].abs().max() == 0


def test_diversity_loss_repels_only_similar_clips() -> None:
    std_M = torch.ones(4)
    first = torch.randn(B, M, T, generator=torch.Generator().manual_seed(0)).requires_grad_()
    diversity_loss(first, first.detach() + 2.0, std_M, torch.ones(B)).backward()
    assert float(first.grad.abs().max()) == 0.0  # type: ignore[union-attr]
    first.grad = None
    diversity_loss(first, first.detach() + 0.5, std_M, torch.ones(B)).backward()
    # A gradient step moves the first clip away from the second.
    assert (first.grad > 0).all()  # type: ignore[operator]
