"""Temperatures of a cross-validation: fitted without the clips that they are scored on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from models.classifier import Classifier
from models.ensemble import Ensemble
from models.settings import ClassifierConfig
from pipeline.classifier.command_configs import EvaluateConfig
from pipeline.classifier.crossval import fold_config, report_folds
from pipeline.classifier.ensemble_calibration import (
    RowLogits,
    cross_fit_temperatures,
    fit_temperature,
    predict_row_logits,
    predictions_at,
    with_temperature,
)
from pipeline.classifier.evaluation_rows import select_rows
from pipeline.classifier.inference import predict_probabilities
from pipeline.classifier.multi_label.evaluation import LabelSetPredictions
from pipeline.classifier.predictor_model import PredictorModel, load_predictor
from pipeline.data.uncached import open_dataset_to_read
from pipeline.training.model_file import ClassifierMetadata
from pipeline.training.run_folder import RunFolder
from tests.helpers.classifier_training import train_run
from tests.helpers.label_sets import write_label_set_shards
from tests.helpers.sounds import SMALL_FEATURES, SMALL_NETWORK
from tests.pipeline.classifier.test_crossval import crossval_config

pytestmark = pytest.mark.usefixtures("single_thread")
CPU = torch.device("cpu")
NAMES = ["a", "b"]


class Stub(torch.nn.Module):
    """Classifier whose logit of class a is the first value of a spectrogram, times `scale`."""

    num_classes, repeats_short_clips = 2, False
    config = ClassifierConfig()

    def __init__(self, scale: float, multi_label: bool = False):
        super().__init__()
        self.scale, self.multi_label, self.temperature = scale, multi_label, 1.0

    def forward(self, mel_BMT: torch.Tensor, is_repeated: bool = False) -> torch.Tensor:
        logit_B = self.scale * mel_BMT[:, 0, 0]
        return torch.stack([logit_B, -logit_B if self.multi_label else torch.zeros_like(logit_B)], dim=1)


@dataclass
class Rows:
    """Clips whose class is sampled with the probability that their spectrogram states."""

    table: pd.DataFrame
    mels: np.ndarray
    multi_label: bool = False

    @staticmethod
    def sample(count: int, multi_label: bool = False) -> Rows:
        rng = np.random.default_rng(0)
        logits = 2 * rng.standard_normal(count)
        is_first = rng.random(count) < 1 / (1 + np.exp(-logits))
        table = pd.DataFrame({"label": np.where(is_first, "a", "b")})
        return Rows(table, np.tile(logits[:, None, None], (1, 2, 2)).astype(np.float32), multi_label)


def stub_model(scale: float, multi_label: bool = False, thresholds: Any = None) -> PredictorModel:
    metadata = ClassifierMetadata(
        model=Stub.config,
        features=SMALL_FEATURES,
        class_names=NAMES,
        training={},
        multi_label=multi_label,
        thresholds=thresholds,
    )
    model: Any = Stub(scale, multi_label)
    return PredictorModel(model, metadata)


def row_logits(saved: PredictorModel, dataset: Any, rows: np.ndarray, tta_shifts: int = 1) -> RowLogits:
    return predict_row_logits(saved, dataset, rows, tta_shifts, CPU)


@pytest.mark.parametrize("multi_label", [False, True])
def test_temperature_of_a_model_is_that_of_the_others(multi_label: bool) -> None:
    """Logits are calibrated in fold 1, and three times too high in fold 2."""
    dataset: Any = Rows.sample(8000, multi_label)
    halves = np.split(np.arange(8000), 2)
    logits = [
        row_logits(stub_model(scale, multi_label), dataset, rows)
        for scale, rows in zip((1, 3), halves, strict=True)
    ]
    temperatures, of_all = cross_fit_temperatures(logits, dataset)
    assert temperatures == pytest.approx([3, 1], rel=0.1)
    assert 1.1 < of_all < 2.9
    assert of_all == pytest.approx(fit_temperature(logits, dataset))


def test_scored_labels_have_no_part_in_the_temperature() -> None:
    dataset: Any = Rows.sample(400)
    thirds = np.split(np.arange(399), 3)
    logits = [row_logits(stub_model(1), dataset, rows) for rows in thirds]
    before, _ = cross_fit_temperatures(logits, dataset)
    dataset.table.loc[thirds[0], "label"] = "a"
    after, _ = cross_fit_temperatures(logits, dataset)
    assert after[0] == pytest.approx(before[0], rel=1e-6)
    assert after[1] != pytest.approx(before[1], rel=0.01)


@pytest.mark.parametrize("shifts", [1, 3])
@pytest.mark.parametrize("multi_label", [False, True])
def test_each_row_is_predicted_once_for_any_temperature(shifts: int, multi_label: bool) -> None:
    dataset: Any = Rows.sample(100, multi_label)
    dataset.mels = np.random.default_rng(1).normal(-40, 10, (100, 16, 30)).astype(np.float32)
    torch.manual_seed(0)
    config = ClassifierConfig(channels=(4, 8), convs_per_block=1, embedding_dim=8)
    model = Classifier(config, 16, 2, multi_label).eval()
    saved = PredictorModel(model, stub_model(1, multi_label).metadata)
    expected = predict_probabilities(model, dataset.mels, shifts).astype(float)
    sizes: list[int] = []
    model.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    logits = row_logits(saved, dataset, np.arange(100), shifts)
    fit_temperature([logits], dataset)
    predictions = predictions_at(0.5, logits, dataset)
    assert sum(sizes) == 100 * shifts and model.temperature == 0.5
    # Divided by one half, logits are twice as large.
    if isinstance(predictions, LabelSetPredictions):
        odds = (expected / (1 - expected)) ** 2
        np.testing.assert_allclose(predictions.probabilities, odds / (1 + odds), rtol=1e-4)
    else:
        own = (expected**2)[np.arange(100), predictions.scores.labels]
        true_probability = predictions.scores.true_probability
        np.testing.assert_allclose(true_probability, own / (expected**2).sum(1), rtol=1e-4)


def test_certain_models_are_calibrated_by_their_logits() -> None:
    """The probability of a logit of 40 is 1 in 32 bits, but at temperature 8 it is not."""
    dataset: Any = Rows.sample(2, multi_label=True)
    dataset.mels = np.full((2, 2, 2), 40.0, np.float32)
    logits = row_logits(stub_model(1, multi_label=True), dataset, np.arange(2))
    predictions = predictions_at(8.0, logits, dataset)
    assert isinstance(predictions, LabelSetPredictions)
    odds = np.exp(5.0)
    np.testing.assert_allclose(predictions.probabilities[0], [odds / (1 + odds), 1 / (1 + odds)], rtol=1e-5)


def test_thresholds_follow_the_temperature() -> None:
    dataset: Any = Rows.sample(200, multi_label=True)
    saved = stub_model(1, multi_label=True, thresholds=(0.3, 0.8))
    before = predict_probabilities(saved.model, dataset.mels) >= saved.metadata.class_thresholds()
    scaled = with_temperature(saved, 2.5)
    probabilities = predict_probabilities(scaled.model, dataset.mels)
    assert (before == (probabilities >= scaled.metadata.class_thresholds())).all()
    assert scaled.metadata.class_thresholds() == pytest.approx(
        1 / (1 + np.exp(-np.log([0.3 / 0.7, 0.8 / 0.2]) / 2.5))
    )


def test_loss_of_mean_is_at_most_mean_of_losses() -> None:
    """So the mean of models of a common temperature needs none of its own to be no worse than they are."""
    dataset: Any = Rows.sample(500)
    labels = (dataset.table["label"] == "b").to_numpy().astype(int)
    members: Any = [Stub(scale) for scale in (0.5, 1, 4)]

    def loss(model: Any) -> float:
        return float(-np.log(predict_probabilities(model, dataset.mels)[np.arange(500), labels]).mean())

    assert loss(Ensemble(members)) < np.mean([loss(member) for member in members])


@pytest.mark.parametrize("multi_label", [False, True])
def test_crossval_scores_are_those_of_cross_fitted_models(
    multi_label: bool, shards: Path, tmp_path: Path
) -> None:
    if multi_label:
        shards = write_label_set_shards(tmp_path / "shards", folds=True)
    config = crossval_config(shards, tmp_path / "run", epochs=2, learning_rate=1e-2, model=SMALL_NETWORK)
    runs = {fold: fold_config(config, fold) for fold in (1, 2, 3)}
    for run in runs.values():
        train_run(run)
    dataset = open_dataset_to_read(shards)
    results = report_folds(config, dataset, runs)
    logits = []
    for run in runs.values():
        saved = load_predictor(run.run)
        _, rows, _ = select_rows(EvaluateConfig(run=run.run, split="held-out"), saved)
        logits.append(row_logits(saved, dataset, rows))
    temperatures, of_all = cross_fit_temperatures(logits, dataset)
    assert len(set(temperatures)) == 3
    assert [fold["temperature"] for fold in results["folds"]] == temperatures
    assert results["member_temperature"] == of_all
    for part, fold in zip(logits, results["folds"], strict=True):
        saved, rows = part.saved, part.rows
        saved.model.temperature *= fold["temperature"]
        probabilities = predict_probabilities(saved.model, dataset.mels[rows]).astype(float)
        if multi_label:
            targets = dataset.targets[rows]
            expected = -np.log(np.where(targets, probabilities, 1 - probabilities)).mean()
        else:
            expected = -np.log(probabilities[np.arange(len(rows)), dataset.labels[rows]]).mean()
        assert fold["log_loss"] == pytest.approx(expected, rel=1e-4)
        evaluation = RunFolder(config.run / f"fold_{fold['fold']}").read_json("evaluation.json")
        assert evaluation["log_loss"] == fold["log_loss"]
