"""The alarm tells what is wrong with an epoch, and is silent while nothing is."""

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


def line(**changes: Any) -> dict[str, Any]:
    return HEALTHY | changes


def test_a_healthy_training_raises_no_alarm() -> None:
    """Losses of either sign, gradients that grow and fall tenfold, diversity that comes slowly and sways."""
    history: list[dict[str, Any]] = []
    for epoch in range(60):
        now = line(
            epoch=epoch,
            generator_loss=math.sin(epoch),
            discriminator_grad_norm=10 ** math.sin(epoch / 5),
            generator_grad_norm=10 ** math.cos(epoch),
            real_score=epoch / 2,
            diversity=min(0.9, 0.01 + epoch / 30) - 0.3 * (epoch % 7 == 0) * (epoch > 20),
        )
        assert detect_collapse(now, history) is None
        history.append(now)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", [name for name, value in HEALTHY.items() if isinstance(value, float)])
def test_a_figure_that_is_no_number_is_named(name: str, value: float) -> None:
    words = f"{name.replace('_', ' ')} is {value}"
    assert (
        detect_collapse(line(**{name: value}), [])
        == detect_collapse(line(**{name: value}), [HEALTHY] * 20)
        == words
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_scores_that_run_apart_raise_the_alarm(sign: int) -> None:
    far, near = sign * (MAX_SCORE_GAP + 20), sign * (MAX_SCORE_GAP - 1)
    assert (
        detect_collapse(line(real_score=far + 5, fake_score=5.0), [])
        == f"the scores of real and drawn clips lie {far:.0f} apart"
    )
    assert detect_collapse(line(real_score=near + 5, fake_score=5.0), []) is None
    # High scores are no fault as long as both are.
    assert detect_collapse(line(real_score=1e4, fake_score=1e4 - 3), []) is None


@pytest.mark.parametrize("whose", ["discriminator", "generator"])
def test_a_gradient_that_explodes_raises_the_alarm(whose: str) -> None:
    name = f"{whose}_norm"
    history = [line(**{name: 0.03})] * 4
    words = f"the {whose}'s gradient has a norm of 4.5, usual is 0.03"
    assert detect_collapse(line(**{name: 4.5}), history) == words
    assert detect_collapse(line(**{name: 0.03 * MAX_GRAD_NORM_GROWTH * 0.99}), history) is None
    assert detect_collapse(line(**{name: 4.5}), history[:1]) == words
    assert detect_collapse(line(**{name: 1e6}), []) is None  # nothing is usual yet


def test_what_is_usual_is_the_middle_of_the_last_epochs() -> None:
    def norms(*values: float) -> list[dict[str, Any]]:
        return [line(generator_grad_norm=value) for value in values]

    # An odd epoch among them, to either side, changes little; and what was long ago nothing.
    assert detect_collapse(line(generator_grad_norm=150.0), norms(1, 1, 1, 90, 1)) is not None
    assert detect_collapse(line(generator_grad_norm=50.0), norms(1, 1, 1e-6, 1, 1)) is None
    assert detect_collapse(line(generator_grad_norm=150.0), norms(*[1] * 50, *[20] * HISTORY_EPOCHS)) is None
    assert (
        detect_collapse(line(generator_grad_norm=150.0), norms(*[20] * 50, *[1] * HISTORY_EPOCHS)) is not None
    )


def test_a_generator_that_draws_one_clip_only_after_it_drew_many_raises_the_alarm() -> None:
    history = [line(diversity=value) for value in (0.01, 0.4, *[0.2] * (3 * HISTORY_EPOCHS))]
    words = "drawn clips of a class differ by 5.0% of what real ones do, after 40.0% before"
    assert detect_collapse(line(diversity=0.05), history) == words
    assert detect_collapse(line(diversity=MIN_DIVERSITY), history) is None


def test_low_diversity_at_the_start_is_no_alarm() -> None:
    low = line(diversity=0.001)
    assert detect_collapse(low, []) is None
    assert detect_collapse(low, [line(diversity=0.02)] * 30) is None
    assert detect_collapse(low, [line(diversity=DIVERSE_THRESHOLD - 0.01)]) is None
    assert detect_collapse(low, [line(diversity=DIVERSE_THRESHOLD)]) is not None
