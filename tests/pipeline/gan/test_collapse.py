"""The alarm tells what is wrong with an epoch, and is silent while nothing is."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pipeline.gan.collapse import LEAST_DIVERSITY, MEMORY, MOST_GAP, MOST_GROWTH, ONCE_DIVERSE, alarm

HEALTHY = {
    "epoch": 7,
    "discriminator_loss": 0.4,
    "generator_loss": 1.2,
    "real_score": 1.5,
    "drawn_score": -0.5,
    "penalty": 0.03,
    "discriminator_norm": 2.0,
    "generator_norm": 0.5,
    "sureness": 0.6,
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
            discriminator_norm=10 ** math.sin(epoch / 5),
            generator_norm=10 ** math.cos(epoch),
            real_score=epoch / 2,
            diversity=min(0.9, 0.01 + epoch / 30) - 0.3 * (epoch % 7 == 0) * (epoch > 20),
        )
        assert alarm(now, history) is None
        history.append(now)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", [name for name, value in HEALTHY.items() if isinstance(value, float)])
def test_a_figure_that_is_no_number_is_named(name: str, value: float) -> None:
    words = f"{name.replace('_', ' ')} is {value}"
    assert alarm(line(**{name: value}), []) == alarm(line(**{name: value}), [HEALTHY] * 20) == words


@pytest.mark.parametrize("sign", [1, -1])
def test_scores_that_run_apart_raise_the_alarm(sign: int) -> None:
    far, near = sign * (MOST_GAP + 20), sign * (MOST_GAP - 1)
    assert alarm(line(real_score=far + 5, drawn_score=5.0), []) == f"the scores of real and drawn clips lie {far:.0f} apart"
    assert alarm(line(real_score=near + 5, drawn_score=5.0), []) is None
    # High scores are no fault as long as both are.
    assert alarm(line(real_score=1e4, drawn_score=1e4 - 3), []) is None


@pytest.mark.parametrize("whose", ["discriminator", "generator"])
def test_a_gradient_that_explodes_raises_the_alarm(whose: str) -> None:
    name = f"{whose}_norm"
    history = [line(**{name: 0.03})] * 4
    words = f"the {whose}'s gradient has a norm of 4.5, usual is 0.03"
    assert alarm(line(**{name: 4.5}), history) == words
    assert alarm(line(**{name: 0.03 * MOST_GROWTH * 0.99}), history) is None
    assert alarm(line(**{name: 4.5}), history[:1]) == words
    assert alarm(line(**{name: 1e6}), []) is None  # nothing is usual yet


def test_what_is_usual_is_the_middle_of_the_last_epochs() -> None:
    def norms(*values: float) -> list[dict[str, Any]]:
        return [line(generator_norm=value) for value in values]

    # An odd epoch among them, to either side, changes little; and what was long ago nothing.
    assert alarm(line(generator_norm=150.0), norms(1, 1, 1, 90, 1)) is not None
    assert alarm(line(generator_norm=50.0), norms(1, 1, 1e-6, 1, 1)) is None
    assert alarm(line(generator_norm=150.0), norms(*[1] * 50, *[20] * MEMORY)) is None
    assert alarm(line(generator_norm=150.0), norms(*[20] * 50, *[1] * MEMORY)) is not None


def test_a_generator_that_draws_one_clip_only_after_it_drew_many_raises_the_alarm() -> None:
    history = [line(diversity=value) for value in (0.01, 0.4, *[0.2] * (3 * MEMORY))]
    words = "drawn clips of a class differ by 5.0% of what real ones do, after 40.0% before"
    assert alarm(line(diversity=0.05), history) == words
    assert alarm(line(diversity=LEAST_DIVERSITY), history) is None


def test_low_diversity_at_the_start_is_no_alarm() -> None:
    low = line(diversity=0.001)
    assert alarm(low, []) is None
    assert alarm(low, [line(diversity=0.02)] * 30) is None
    assert alarm(low, [line(diversity=ONCE_DIVERSE - 0.01)]) is None
    assert alarm(low, [line(diversity=ONCE_DIVERSE)]) is not None
