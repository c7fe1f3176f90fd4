"""Validation of an epoch: scores against scikit-learn, and what workers exchange for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics
import torch
from torch import Tensor

from models.calibration import TEMPERATURES
from pipeline.classifier.inference import predict_probabilities
from pipeline.classifier.loop import evaluate_epoch, train_loop
from pipeline.classifier.prepare import prepare
from pipeline.classifier.saved_state import restore
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.model_file import load_classifier
from pipeline.training.run_folder import RunFolder
from pipeline.training.world import World
from tests.helpers.runs import SINGLE_WORKER
from tests.helpers.sounds import SMALL_NETWORK, train_config

pytestmark = pytest.mark.usefixtures("single_thread")


class RecordingWorld(World):
    """A single worker that records the number of values in each sum over all workers."""

    def sum(self, values: Tensor) -> Tensor:
        self.__dict__.setdefault("sizes", []).append(values.numel())
        return super().sum(values)


def test_scores_are_those_of_all_predictions(shards: Path, tmp_path: Path) -> None:
    world = RecordingWorld(0, 1, torch.device("cpu"))
    config = train_config(shards, tmp_path, val_fraction=0.6, epochs=12, learning_rate=1e-2)
    train_loop(config, SINGLE_WORKER)
    state = prepare(config, world)
    checkpoint = Checkpoints(config.run).read()
    assert checkpoint is not None
    restore(state, *checkpoint)
    metrics = evaluate_epoch(state)
    rows = state.split.val
    probabilities = predict_probabilities(state.ema.model, state.dataset.mels[rows])
    labels, predictions = state.labels[rows], probabilities.argmax(axis=1)
    assert len(np.unique(predictions)) > 1
    assert metrics["val_accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(labels, predictions))
    f1 = sklearn.metrics.f1_score(labels, predictions, average="macro", labels=np.unique(labels))
    assert metrics["val_macro_f1"] == pytest.approx(f1)
    assert metrics["val_loss"] == pytest.approx(sklearn.metrics.log_loss(labels, probabilities), rel=1e-5)
    # Correct clips and predictions of each class, and losses: no value for each pair of classes.
    assert world.__dict__["sizes"][-1] == 2 * len(state.dataset.class_names) + len(TEMPERATURES) + 1


def test_predictions_of_saved_model_are_calibrated_on_validation_clips(shards: Path, tmp_path: Path) -> None:
    config = train_config(shards, tmp_path, val_fraction=0.6, epochs=8, keep="last", model=SMALL_NETWORK)
    train_loop(config, SINGLE_WORKER)
    saved, state = load_classifier(tmp_path), prepare(config, SINGLE_WORKER)
    assert saved.model.temperature == state_of_last_epoch(tmp_path)["temperature"] != 1.0
    mels, labels = state.dataset.mels[state.split.val], state.labels[state.split.val]

    def loss(temperature: float) -> float:
        saved.model.temperature = temperature
        return sklearn.metrics.log_loss(labels, predict_probabilities(saved.model, mels))

    fitted = saved.model.temperature
    assert loss(fitted) < loss(1.0)
    assert loss(fitted) < min(loss(fitted / 2), loss(fitted * 2))


def test_without_validation_probabilities_stay_as_they_are(shards: Path, tmp_path: Path) -> None:
    train_loop(train_config(shards, tmp_path, val_fraction=0.0, epochs=1), SINGLE_WORKER)
    assert load_classifier(tmp_path).model.temperature == 1.0


def state_of_last_epoch(run: Path) -> dict:
    return RunFolder(run).read_history()[-1]
