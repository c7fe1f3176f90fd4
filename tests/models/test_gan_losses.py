"""Losses by hand, who gains from whose step, and the gradient penalty against finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from models.gan_losses import LossName, discriminator_loss, diversity_loss, generator_loss, gradient_penalty

NAMES: tuple[LossName, ...] = get_args(LossName)
REAL, DRAWN = [2.0, -1.0], [0.5, 3.0]
B, M, T = 3, 4, 5


def softplus(value: float) -> float:
    return math.log1p(math.exp(value))


def scores(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Scores where every loss has a slope: real and drawn within the hinge's margins."""
    real_B, drawn_B = (
        1.8 * torch.rand(2, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 0.9
    )
    return real_B.requires_grad_(), drawn_B.requires_grad_()


@pytest.mark.parametrize(
    ("name", "discriminators", "generators"),
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
def test_losses_by_hand(name: LossName, discriminators: float, generators: float) -> None:
    real_B, drawn_B = torch.tensor(REAL), torch.tensor(DRAWN)
    assert float(discriminator_loss(name, real_B, drawn_B)) == pytest.approx(discriminators, rel=1e-6)
    assert float(generator_loss(name, drawn_B, real_B)) == pytest.approx(generators, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "undecided"),
    [("relativistic", math.log(2)), ("hinge", 2.0), ("non-saturating", 2 * math.log(2))],
    ids=NAMES,
)
def test_a_discriminator_that_knows_nothing_pays_for_it_and_one_that_knows_all_does_not(
    name: LossName, undecided: float
) -> None:
    assert float(discriminator_loss(name, torch.zeros(4), torch.zeros(4))) == pytest.approx(undecided)
    assert float(discriminator_loss(name, torch.full((4,), 30.0), torch.full((4,), -30.0))) == pytest.approx(
        0.0, abs=1e-9
    )


@pytest.mark.parametrize("name", NAMES)
def test_only_the_relativistic_loss_does_not_see_a_constant_added_to_all_scores(name: LossName) -> None:
    real_B, drawn_B = (side.detach() for side in scores())
    for before, after in (
        (discriminator_loss(name, real_B, drawn_B), discriminator_loss(name, real_B + 3, drawn_B + 3)),
        (generator_loss(name, drawn_B, real_B), generator_loss(name, drawn_B + 3, real_B + 3)),
    ):
        assert math.isclose(float(before), float(after), rel_tol=1e-9) == (name == "relativistic")


@pytest.mark.parametrize("name", NAMES)
def test_the_generator_looks_at_real_scores_in_the_relativistic_loss_alone(name: LossName) -> None:
    real_B, drawn_B = scores()
    same = torch.equal(generator_loss(name, drawn_B, real_B), generator_loss(name, drawn_B, real_B + 1))
    assert same == (name != "relativistic")


@pytest.mark.parametrize("name", NAMES)
def test_the_discriminator_gains_by_raising_real_scores_and_lowering_drawn_ones(name: LossName) -> None:
    real_B, drawn_B = scores()
    loss = discriminator_loss(name, real_B, drawn_B)
    loss.backward()
    assert (real_B.grad < 0).all() and (drawn_B.grad > 0).all()  # type: ignore[operator]
    stepped = discriminator_loss(name, real_B - 0.1 * real_B.grad, drawn_B - 0.1 * drawn_B.grad)  # type: ignore[operator]
    assert stepped < loss


@pytest.mark.parametrize("name", NAMES)
def test_the_generator_gains_by_raising_drawn_scores_and_the_discriminator_loses_by_that(
    name: LossName,
) -> None:
    real_B, drawn_B = scores()
    loss = generator_loss(name, drawn_B, real_B.detach())
    loss.backward()
    assert (drawn_B.grad < 0).all()  # type: ignore[operator]
    stepped_B = drawn_B - 0.1 * drawn_B.grad  # type: ignore[operator]
    assert generator_loss(name, stepped_B, real_B) < loss
    assert discriminator_loss(name, real_B, stepped_B) > discriminator_loss(name, real_B, drawn_B)


@pytest.mark.parametrize("name", NAMES)
def test_a_generator_that_is_seen_through_still_learns(name: LossName) -> None:
    """Its gradient doesn't vanish, and no score overflows."""
    drawn_B = torch.full((2,), -1000.0, requires_grad=True)
    loss = generator_loss(name, drawn_B, torch.full((2,), 1000.0))
    loss.backward()
    assert loss.isfinite() and torch.equal(drawn_B.grad, torch.full((2,), -0.5))  # type: ignore[arg-type]
    assert discriminator_loss(name, drawn_B, -drawn_B).isfinite()


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(M * T, 6), nn.Tanh(), nn.Linear(6, 1), nn.Flatten(0)
    ).double()


def some_mels(seed: int = 0) -> Tensor:
    return torch.randn(B, M, T, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


UNIT = torch.tensor([1.0, 0.5, 2.0, 3.0], dtype=torch.float64)


def finite_differences(score: Callable[[Tensor], Tensor], mel_BMT: Tensor, step: float = 1e-5) -> Tensor:
    slope = torch.zeros_like(mel_BMT)
    for band in range(mel_BMT.shape[1]):
        for frame in range(mel_BMT.shape[2]):
            aside = torch.zeros_like(mel_BMT)
            aside[:, band, frame] = step
            slope[:, band, frame] = (score(mel_BMT + aside) - score(mel_BMT - aside)) / (2 * step)
    return slope


def test_the_penalty_is_half_the_squared_slope_that_finite_differences_find() -> None:
    score, mel = net(), some_mels()
    with torch.no_grad():
        slope = finite_differences(score, mel)
    got = gradient_penalty(score, mel, UNIT)
    assert got.shape == (B,)
    torch.testing.assert_close(
        got.detach().double(), 0.5 * (slope * UNIT[:, None]).square().sum(dim=(1, 2)), rtol=1e-6, atol=1e-9
    )


def test_the_slope_of_the_penalty_by_every_weight_is_that_of_finite_differences() -> None:
    score, mel, step = net(), some_mels(), 1e-3
    gradient_penalty(score, mel, UNIT).sum().backward()
    assert sum(weight.numel() for weight in score.parameters()) == 20 * 6 + 6 + 6 + 1
    for name, weight in score.named_parameters():
        want = torch.zeros_like(weight)
        for i in range(weight.numel()):
            values = []
            for sign in (1, -1):
                with torch.no_grad():
                    weight.view(-1)[i] += sign * step
                values.append(gradient_penalty(score, mel, UNIT).sum().item())
                with torch.no_grad():
                    weight.view(-1)[i] -= sign * step
            want.view(-1)[i] = (values[0] - values[1]) / (2 * step)
        # The last bias shifts the score and no slope.
        got = torch.zeros_like(weight) if weight.grad is None else weight.grad
        torch.testing.assert_close(
            got, want, rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )
        assert (got.abs().max() > 0.01) == (name != "3.bias")


def test_a_linear_score_has_the_penalty_of_its_weights_wherever_it_is_taken() -> None:
    weight = torch.randn(M, T, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for mel in (some_mels(), 100 * some_mels(1)):
        got = gradient_penalty(lambda at: (at * weight).sum(dim=(1, 2)), mel, UNIT)
        want = 0.5 * (weight * UNIT[:, None]).square().sum()
        torch.testing.assert_close(got.double(), want.expand(B), rtol=1e-6, atol=0.0)


def test_twice_the_unit_is_four_times_the_penalty_and_each_band_has_its_own_part_of_it() -> None:
    score, mel = net(), some_mels()
    whole = gradient_penalty(score, mel, UNIT)
    torch.testing.assert_close(gradient_penalty(score, mel, 2 * UNIT), 4 * whole)
    parts = [
        gradient_penalty(score, mel, UNIT * torch.eye(M, dtype=torch.float64)[band]) for band in range(M)
    ]
    assert all((part > 0).all() for part in parts)
    torch.testing.assert_close(torch.stack(parts).sum(dim=0), whole)
    # Spectrograms in other units have the same penalty where the units are told.
    torch.testing.assert_close(gradient_penalty(lambda at: score(at / 7), 7 * mel, 7 * UNIT), whole)


def test_the_penalty_of_a_clip_is_its_own() -> None:
    score, mel = net(), some_mels()
    together = gradient_penalty(score, mel, UNIT)
    torch.testing.assert_close(
        torch.cat([gradient_penalty(score, mel[i : i + 1], UNIT) for i in range(B)]), together
    )
    assert len(set(together.tolist())) == B


def test_the_penalty_teaches_the_score_and_not_what_drew_the_clips() -> None:
    score, mel = net(), some_mels().requires_grad_()
    gradient_penalty(score, 2 * mel, UNIT).sum().backward()
    assert mel.grad is None
    plain = some_mels()
    gradient_penalty(score, plain, UNIT)
    assert not plain.requires_grad


def test_two_draws_cost_as_much_as_they_are_more_alike_than_real_clips() -> None:
    unit_M = torch.tensor([10.0, 20.0])
    one = torch.zeros(3, 2, 4)
    # In units: apart by 0, by 0.5 in each value, and by 3.
    other = torch.stack(
        [torch.zeros(2, 4), 0.5 * unit_M[:, None].expand(2, 4), 3 * unit_M[:, None].expand(2, 4)]
    )
    assert float(diversity_loss(one, other, unit_M, wanted=1.0)) == pytest.approx((1.0 + 0.5 + 0.0) / 3)
    assert float(diversity_loss(one, other, unit_M, wanted=0.5)) == pytest.approx((1.0 + 0.0 + 0.0) / 3)


def test_draws_as_far_apart_as_real_clips_are_left_alone() -> None:
    unit_M = torch.ones(4)
    first = torch.randn(B, M, T, generator=torch.Generator().manual_seed(0)).requires_grad_()
    diversity_loss(first, first.detach() + 2.0, unit_M, wanted=1.0).backward()
    assert float(first.grad.abs().max()) == 0.0  # type: ignore[union-attr]
    first.grad = None
    diversity_loss(first, first.detach() + 0.5, unit_M, wanted=1.0).backward()
    # A step down the slope moves the first away from the second.
    assert (first.grad > 0).all()  # type: ignore[operator]
