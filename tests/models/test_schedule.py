"""Plateau of a loss, at which a constant learning rate starts to decay."""

from __future__ import annotations

import pytest

from models.schedule import decay_end, decay_start

FALLING = [0.9**epoch for epoch in range(40)]


@pytest.mark.parametrize(
    ("losses", "start"),
    [
        ([], 20),
        (FALLING, 20),
        ([1.0, 0.8, 0.9, 0.9], 20),  # the third epoch of the patience is not over yet
        ([1.0, 0.8, 0.9, 0.9, 0.9], 5),
        ([1.0, 0.8, 0.79, 0.78, 0.77], 5),  # less than 5 % in three epochs
        ([1.0, 0.8, 0.9, 0.9, 0.76], 20),
        ([1.0, 0.8, 0.9, 0.9, 0.9, 0.5, 0.2], 5),  # losses of the decay change nothing
    ],
)
def test_decay_starts_at_plateau(losses: list[float], start: int) -> None:
    assert decay_start(losses, 3, 40) == start


@pytest.mark.parametrize(
    ("losses", "start"),
    [
        ([1.0, 1.0, 1.0, 1.0, 1.0], 20),  # the learning rate still rises
        ([1.0] * 8, 8),
        ([1.0] * 7 + [0.8], 20),
        ([0.5] * 5 + [0.8] * 3, 8),
    ],
)
def test_plateau_begins_after_warmup(losses: list[float], start: int) -> None:
    assert decay_start(losses, 3, 40, warmup=5) == start
    assert decay_start(losses, 3, 8, warmup=7) >= 7


@pytest.mark.parametrize("epochs", [1, 2, 3, 5, 40])
def test_training_without_plateau_uses_all_epochs(epochs: int) -> None:
    start = decay_start(FALLING, 3, epochs)
    assert start <= epochs / 2 and decay_end(start, epochs) == epochs


def test_decay_takes_as_long_as_the_epochs_before() -> None:
    assert decay_end(5, 40) == 11
