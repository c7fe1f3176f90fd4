"""Settings of classifier training that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from models.config import ConfigError
from pipeline.classifier.config import TrainClassifierConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"ensemble": 2, "ensemble_inputs": ("db", "pcen", "db+pcen")},
            "--ensemble-inputs db pcen db+pcen: 3 inputs for --ensemble 2; raise it to at least 3",
        ),
        (
            {"ensemble_inputs": ("pcen",)},
            "1 inputs for --ensemble 1; raise it to at least 2; for one model use --model.input",
        ),
        (
            {"ensemble": 2, "ensemble_inputs": ("db", "db+pcen"), "model": {"input": "pcen"}},
            "--model.input pcen and --ensemble-inputs: the models have the inputs of the latter; drop one",
        ),
        (
            {"sampling": "balanced", "class_weights": True},
            "--sampling balanced and --class-weights: each makes up for rare classes",
        ),
        ({"warmup_epochs": 4.0, "epochs": 3}, "--warmup-epochs 4 is longer than the training (--epochs 3)"),
        ({"seed": -1}, "'seed' = -1: input should be greater than or equal to 0"),
    ],
)
def test_refused_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        TrainClassifierConfig(shards=Path("s"), run=Path("r"), **settings)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("settings", "stop"),
    [
        ({"epochs": 80}, 60),
        ({"epochs": 300}, 225),
        ({"epochs": 4}, 3),
        ({"epochs": 300, "patience": 25}, 35),
        ({"epochs": 300, "swa_fraction": 0.5}, None),
    ],
)
def test_training_without_improvement_stops(settings: dict[str, Any], stop: int | None) -> None:
    """The best epoch is the tenth, or the first of fewer."""
    config = TrainClassifierConfig(shards=Path("s"), run=Path("r"), **settings)
    best = min(10, config.epochs // 4)
    stops = [epoch for epoch in range(best, config.epochs) if config.stops_early(epoch, best)]
    assert stops == ([] if stop is None else list(range(stop, config.epochs)))


@pytest.mark.parametrize("best", [41, 59, 60])
def test_late_improvement_prolongs_training(best: int) -> None:
    config = TrainClassifierConfig(shards=Path("s"), run=Path("r"), epochs=80)
    assert not config.stops_early(min(79, best + 19), best)
    assert config.stops_early(best + 20, best)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, None),
        ({"patience": 5}, None),
        ({"schedule": "plateau", "keep": "last", "patience": 5}, None),
        ({"val_fraction": 0.0}, None),
        ({"val_fraction": 0.0, "val_split": (1, 5), "patience": 5}, None),
        ({"val_fraction": 0.0, "patience": 5}, "--patience 5 has no effect without validation clips: "),
        ({"keep": "last", "patience": 5}, "--patience 5 has no effect with --keep last: "),
        ({"val_fraction": 0.0, "schedule": "plateau"}, "--schedule plateau without validation clips: "),
    ],
)
def test_ineffective_settings(settings: dict[str, Any], message: str | None) -> None:
    found = TrainClassifierConfig(shards=Path("s"), run=Path("r"), **settings).ineffective_settings
    assert [text[: len(message or "")] for text in found] == ([] if message is None else [message])


@pytest.mark.parametrize(("epochs", "warmup"), [(1, 0.2), (10, 2.0), (15, 3.0), (80, 3.0)])
def test_default_warmup_leaves_time_to_train(epochs: int, warmup: float) -> None:
    assert TrainClassifierConfig(shards=Path("s"), run=Path("r"), epochs=epochs).num_warmup_epochs == warmup
