"""Validation of an epoch: scores against scikit-learn, and what workers exchange for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics
import torch
from torch import Tensor

from pipeline.classifier.inference import predict_probabilities
from pipeline.classifier.loop import evaluate_epoch, train_loop
from pipeline.classifier.state import prepare, restore
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.world import World
from tests.helpers.runs import SINGLE_WORKER
from tests.helpers.sounds import train_config

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
    # Correct clips and predictions of each class, and the loss: not a value for each pair of classes.
    assert world.__dict__["sizes"][-1] == 2 * len(state.dataset.class_names) + 1
