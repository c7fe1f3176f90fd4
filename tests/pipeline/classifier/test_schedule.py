"""Training with a constant learning rate until a plateau: rates, end, resume."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.config import ConfigError
from models.settings import ClassifierConfig
from pipeline.classifier.prepare import prepare
from pipeline.classifier.schedule import last_epoch, learning_rate
from pipeline.training.run_folder import RunFolder
from tests.helpers.classifier_training import (
    assert_nearly_equal,
    interrupted_at,
    train_on_workers,
    train_run,
)
from tests.helpers.runs import SINGLE_WORKER, load_weights, tensors_equal
from tests.helpers.sounds import train_config

pytestmark = pytest.mark.usefixtures("single_thread")


def test_rate_is_constant_until_plateau_and_then_decays(shards: Path, tmp_path: Path) -> None:
    config = train_config(shards, tmp_path, epochs=40, schedule="plateau", patience=3, warmup_epochs=1.0)
    state = prepare(config, SINGLE_WORKER)
    steps = state.steps_per_epoch

    def factors(start: int, end: int) -> list[float]:
        numbers = range(start * steps, end * steps)
        return [learning_rate(state, number) / config.learning_rate for number in numbers]

    assert last_epoch(state) == 40
    assert factors(0, 1) == pytest.approx([(step + 1) / steps for step in range(steps)])
    assert factors(1, 20) == pytest.approx([1.0] * 19 * steps)
    state.history = [{"epoch": epoch, "val_loss": 1.0} for epoch in range(1, 5)]
    assert last_epoch(state) == 9
    assert factors(1, 4) == pytest.approx([1.0] * 3 * steps)
    decay = factors(4, 9)
    assert decay[0] == pytest.approx(1.0) and 0.01 < decay[-1] < 0.03
    assert decay == sorted(decay, reverse=True)


def test_plateau_lasts_enough_steps_by_default(shards: Path, tmp_path: Path) -> None:
    """Sixty steps, of how many epochs ever: the loss of few clips may rise at first."""
    state = prepare(train_config(shards, tmp_path, epochs=200, schedule="plateau"), SINGLE_WORKER)
    epochs = 60 // state.steps_per_epoch
    assert epochs * state.steps_per_epoch == 60 and epochs > 3
    state.history = [{"epoch": epoch, "val_loss": 1.0} for epoch in range(1, epochs + 1)]
    assert last_epoch(state) == 200
    state.history.append({"epoch": epochs + 1, "val_loss": 1.0})
    assert last_epoch(state) == 2 * (epochs + 1) + 1


def test_resumed_run_equals_uninterrupted(shards: Path, tmp_path: Path) -> None:
    """A rate of nearly zero has a plateau at once: two epochs of the constant rate, three of decay."""
    settings = {"epochs": 20, "schedule": "plateau", "patience": 1, "learning_rate": 1e-9, "ema_decay": 0.0}
    uninterrupted = train_config(shards, tmp_path / "uninterrupted", **settings)
    summary = train_run(uninterrupted)
    assert summary["epochs"] == 5 and summary["stopped_early"]
    interrupted = train_config(shards, tmp_path / "interrupted", **settings)
    steps = prepare(uninterrupted, SINGLE_WORKER).steps_per_epoch
    with interrupted_at(3 * steps + 2):  # in the middle of the second epoch of the decay
        train_run(interrupted)
    assert train_run(interrupted)["epochs"] == 5
    assert tensors_equal(load_weights(uninterrupted.run), load_weights(interrupted.run))
    rates = [
        [epoch["learning_rate"] for epoch in RunFolder(run.run).read_history()]
        for run in (uninterrupted, interrupted)
    ]
    assert rates[0] == rates[1] and rates[0][1] == 1e-9 and rates[0][2:] == sorted(rates[0][2:], reverse=True)


def test_two_workers_stop_at_the_epoch_of_one(shards: Path, tmp_path: Path) -> None:
    model = ClassifierConfig(channels=(8, 16), convs_per_block=1, embedding_dim=16, dropout=0.0, norm="group")
    settings = {"model": model, "epochs": 8, "batch_size": 15, "schedule": "plateau", "patience": 1}
    settings |= {"learning_rate": 1e-5, "ema_decay": 0.0}
    assert train_run(train_config(shards, tmp_path / "one", **settings))["epochs"] == 5
    train_on_workers(train_config(shards, tmp_path / "two", **settings), tmp_path / "rendezvous")
    assert_nearly_equal(tmp_path / "one", tmp_path / "two", ("epoch", "val_loss", "learning_rate"))


def test_training_without_validation_decays_in_second_half(shards: Path, tmp_path: Path) -> None:
    config = train_config(shards, tmp_path, epochs=4, schedule="plateau", val_fraction=0.0)
    assert train_run(config)["epochs"] == 4
    rates = [epoch["learning_rate"] / config.learning_rate for epoch in RunFolder(tmp_path).read_history()]
    assert rates[:2] == pytest.approx([1.0, 1.0]) and rates[2] > rates[3]


def test_mean_of_weights_needs_a_known_end(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--swa-fraction 0\.5 needs --schedule cosine"):
        train_config(shards, tmp_path, schedule="plateau", swa_fraction=0.5)
