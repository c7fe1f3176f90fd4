"""Stochastic weight averaging of a classifier: mean weights, batch norm, learning rate, resume, workers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models.config import ConfigError
from models.repetition import repeat_short_clips
from models.settings import ClassifierConfig
from pipeline.classifier.mean_weights import update_statistics
from pipeline.classifier.prepare import prepare
from pipeline.classifier.schedule import learning_rate
from pipeline.classifier.step import plan_step, train_step
from pipeline.io.errors import UserError
from pipeline.training.model_file import load_classifier
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


def test_weights_are_mean_of_steps_since_start(shards: Path, tmp_path: Path) -> None:
    state = prepare(train_config(shards, tmp_path, epochs=4, swa_fraction=0.5), SINGLE_WORKER)
    start = 2 * state.steps_per_epoch
    state.wrapped_model.train()
    name, raw = "head.1.weight", []
    for number in range(start + 3):
        train_step(state, plan_step(state, state.split.train[:16], number))
        raw.append(state.model.state_dict()[name].clone())
    torch.testing.assert_close(state.ema.model.state_dict()[name], torch.stack(raw[start:]).mean(0))


def test_learning_rate_stays_while_averaging(shards: Path, tmp_path: Path) -> None:
    config = train_config(shards, tmp_path, epochs=4, swa_fraction=0.5, swa_lr_factor=0.3)
    state = prepare(config, SINGLE_WORKER)
    start, steps = 2 * state.steps_per_epoch, 4 * state.steps_per_epoch
    rates = [learning_rate(state, step) / config.learning_rate for step in range(steps)]
    assert max(rates) == pytest.approx(1) and rates[start - 1] > 0.3
    assert rates[start:] == pytest.approx([0.3] * (steps - start))


def test_saved_batch_norm_is_that_of_training_rows(shards: Path, tmp_path: Path) -> None:
    """Of few rows, whose batch is all of them, in any order."""
    config = train_config(shards, tmp_path, swa_fraction=0.5, val_fraction=0.0)
    train_run(config)
    state = prepare(config, SINGLE_WORKER)
    assert len(state.split.train) <= 128
    model = load_classifier(tmp_path).model
    mel_BMT = repeat_short_clips(torch.from_numpy(state.dataset.mels[state.split.train].astype(np.float32)))
    x_BKMT = ((mel_BMT - model.mel_mean_M[:, None]) / model.mel_std_M[:, None])[:, None]
    conv, norm = model.stem[0], model.stem[1]
    var_K, mean_K = torch.var_mean(conv(x_BKMT), (0, 2, 3))
    torch.testing.assert_close(norm.running_mean, mean_K.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var, var_K.detach(), rtol=1e-4, atol=1e-5)


def test_statistics_stay_before_averaging(shards: Path, tmp_path: Path) -> None:
    state = prepare(train_config(shards, tmp_path, swa_fraction=0.5), SINGLE_WORKER)
    before = {name: value.clone() for name, value in state.ema.model.state_dict().items()}
    update_statistics(state)
    assert tensors_equal(state.ema.model.state_dict(), before)


def test_resumed_run_equals_uninterrupted(shards: Path, tmp_path: Path) -> None:
    settings = {"epochs": 4, "swa_fraction": 0.75}
    uninterrupted = train_config(shards, tmp_path / "uninterrupted", **settings)
    train_run(uninterrupted)
    interrupted = train_config(shards, tmp_path / "interrupted", **settings)
    with interrupted_at(8):  # in the middle of the third epoch, the second of which weights are averaged
        train_run(interrupted)
    train_run(interrupted)
    assert tensors_equal(load_weights(uninterrupted.run), load_weights(interrupted.run))
    histories = [RunFolder(run.run).read_history() for run in (uninterrupted, interrupted)]
    assert histories[0][-1]["val_loss"] == histories[1][-1]["val_loss"]


@pytest.mark.slow
def test_two_workers_equal_one(shards: Path, tmp_path: Path) -> None:
    """Batch norm over all workers, no dropout: nothing else may depend on how many workers share a batch."""
    model = ClassifierConfig(channels=(8, 16), convs_per_block=1, embedding_dim=16, dropout=0.0, norm="sync")
    settings = {"model": model, "epochs": 3, "batch_size": 15, "swa_fraction": 0.6}
    train_run(train_config(shards, tmp_path / "one", **settings))
    two = train_config(shards, tmp_path / "two", **settings)
    train_on_workers(two, tmp_path / "rendezvous")
    assert_nearly_equal(tmp_path / "one", tmp_path / "two", ("train_loss", "val_loss", "val_accuracy"))


def test_averaging_before_warmup_ends_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--swa-fraction 0.9: .* warmup of 3 epochs"):
        train_config(tmp_path, tmp_path, epochs=20, warmup_epochs=3.0, swa_fraction=0.9)


def test_averaging_of_no_step_is_refused(shards: Path, tmp_path: Path) -> None:
    settings = {"epochs": 1, "warmup_epochs": 0.0, "batch_size": 64}
    with pytest.raises(UserError, match=r"--swa-fraction 0\.1: no step to average .* of 1 step; raise it"):
        prepare(train_config(shards, tmp_path, swa_fraction=0.1, **settings), SINGLE_WORKER)
