"""Collapse detection: each kind of collapse is reported, healthy training is not."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pipeline.gan.collapse import (
    DIVERSE_THRESHOLD,
    HISTORY_EPOCHS,
    MAX_GRAD_NORM_GROWTH,
    MAX_SCORE_GAP,
    MIN_DIVERSITY,
    detect_collapse,
)

HEALTHY = {
    "epoch": 7,
    "discriminator_loss": 0.4,
    "generator_loss": 1.2,
    "real_score": 1.5,
    "fake_score": -0.5,
    "penalty": 0.03,
    "discriminator_grad_norm": 2.0,
    "generator_grad_norm": 0.5,
    "ada_rt": 0.6,
    "diversity": 0.8,
}


def epoch_metrics(**changes: Any) -> dict[str, Any]:
    return HEALTHY | changes


def test_healthy_training_is_not_a_collapse() -> None:
    """Losses of either sign, gradient norms that vary tenfold, diversity that rises slowly and fluctuates."""
    history: list[dict[str, Any]] = []
    for epoch in range(60):
        metrics = epoch_metrics(
            epoch=epoch,
            generator_loss=math.sin(epoch),
            discriminator_grad_norm=10 ** math.sin(epoch / 5),
            generator_grad_norm=10 ** math.cos(epoch),
            real_score=epoch / 2,
            diversity=min(0.9, 0.01 + epoch / 30) - 0.3 * (epoch % 7 == 0) * (epoch > 20),
        )
        assert detect_collapse(metrics, history) is None
        history.append(metrics)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", [name for name, value in HEALTHY.items() if isinstance(value, float)])
def test_metric_that_is_not_finite_is_named(name: str, value: float) -> None:
    expected = f"{name.replace('_', ' ')} is {value}"
    assert detect_collapse(epoch_metrics(**{name: value}), []) == expected
    assert detect_collapse(epoch_metrics(**{name: value}), [HEALTHY] * 20) == expected


@pytest.mark.parametrize("sign", [1, -1])
def test_large_score_gap_is_a_collapse(sign: int) -> None:
    gap, allowed_gap = sign * (MAX_SCORE_GAP + 20), sign * (MAX_SCORE_GAP - 1)
    assert (
        detect_collapse(epoch_metrics(real_score=gap + 5, fake_score=5.0), [])
        == f"score gap between real and generated clips is {gap:.0f}"
    )
    assert detect_collapse(epoch_metrics(real_score=allowed_gap + 5, fake_score=5.0), []) is None
    # Only the gap counts: both scores may be high.
    assert detect_collapse(epoch_metrics(real_score=1e4, fake_score=1e4 - 3), []) is None


@pytest.mark.parametrize("network", ["discriminator", "generator"])
def test_exploding_gradient_norm_is_a_collapse(network: str) -> None:
    name = f"{network}_grad_norm"
    history = [epoch_metrics(**{name: 0.03})] * 4
    expected = f"{network} gradient norm is 4.5 (typical: 0.03)"
    assert detect_collapse(epoch_metrics(**{name: 4.5}), history) == expected
    assert detect_collapse(epoch_metrics(**{name: 0.03 * MAX_GRAD_NORM_GROWTH * 0.99}), history) is None
    assert detect_collapse(epoch_metrics(**{name: 4.5}), history[:1]) == expected
    # Without history there is no typical value.
    assert detect_collapse(epoch_metrics(**{name: 1e6}), []) is None


def test_typical_gradient_norm_is_recent_median() -> None:
    def history(*norms: float) -> list[dict[str, Any]]:
        return [epoch_metrics(generator_grad_norm=norm) for norm in norms]

    high, moderate = (epoch_metrics(generator_grad_norm=norm) for norm in (150.0, 50.0))
    # Outliers in either direction have little effect, epochs before the recent ones none.
    assert detect_collapse(high, history(1, 1, 1, 90, 1)) is not None
    assert detect_collapse(moderate, history(1, 1, 1e-6, 1, 1)) is None
    assert detect_collapse(high, history(*[1] * 50, *[20] * HISTORY_EPOCHS)) is None
    assert detect_collapse(high, history(*[20] * 50, *[1] * HISTORY_EPOCHS)) is not None


def test_loss_of_diversity_is_a_collapse() -> None:
    history = [epoch_metrics(diversity=value) for value in (0.01, 0.4, *[0.2] * (3 * HISTORY_EPOCHS))]
    expected = "within-class diversity fell to 5.0% of real clips (from 40.0%)"
    assert detect_collapse(epoch_metrics(diversity=0.05), history) == expected
    assert detect_collapse(epoch_metrics(diversity=MIN_DIVERSITY), history) is None


def test_low_diversity_at_start_is_not_a_collapse() -> None:
    metrics = epoch_metrics(diversity=0.001)
    assert detect_collapse(metrics, []) is None
    assert detect_collapse(metrics, [epoch_metrics(diversity=0.02)] * 30) is None
    assert detect_collapse(metrics, [epoch_metrics(diversity=DIVERSE_THRESHOLD - 0.01)]) is None
    assert detect_collapse(metrics, [epoch_metrics(diversity=DIVERSE_THRESHOLD)]) is not None


def test_undefined_diversity_is_not_a_collapse() -> None:
    """Classes of silence or of copies: training runs through all epochs without a rollback."""
    history = [epoch_metrics(diversity=None)] * 3
    assert detect_collapse(epoch_metrics(diversity=None), history) is None
    assert detect_collapse(epoch_metrics(diversity=0.001), history) is None


def test_growth_of_tiny_gradients_is_not_an_explosion() -> None:
    history = [epoch_metrics(generator_grad_norm=1e-7)] * 4
    assert detect_collapse(epoch_metrics(generator_grad_norm=0.5), history) is None
    assert detect_collapse(epoch_metrics(generator_grad_norm=1.5), history) is not None
