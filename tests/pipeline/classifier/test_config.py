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
        ({"warmup_epochs": 4.0, "epochs": 3}, "--warmup-epochs 4 is longer than the training (--epochs 3)"),
        ({"seed": -1}, "'seed' = -1: input should be greater than or equal to 0"),
    ],
)
def test_refused_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        TrainClassifierConfig(shards=Path("s"), run=Path("r"), **settings)
    assert message in str(error.value)


@pytest.mark.parametrize(("epochs", "warmup"), [(1, 0.2), (10, 2.0), (15, 3.0), (80, 3.0)])
def test_default_warmup_leaves_time_to_train(epochs: int, warmup: float) -> None:
    assert TrainClassifierConfig(shards=Path("s"), run=Path("r"), epochs=epochs).num_warmup_epochs == warmup
