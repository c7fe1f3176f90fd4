"""Temperature of a model whose probabilities are means, on labeled clips.

The mean of calibrated probabilities is too cautious wherever the members disagree (Rahaman and Thiery 2021;
Wu and Gales 2021). So an ensemble is calibrated after averaging: one temperature of the logarithm of its
mean, fitted on the validation clips, which none of its members was trained on. The members' own temperatures
are kept: they give a member with extreme logits no more weight than the others.

The models of a cross-validation have no clips in common that none of them was trained on, so their mean
cannot be calibrated itself: on a clip that most of them have seen it is far too confident, and its
temperature would be that of training clips. Its members can: each predicts the clips of its fold, and one
temperature for all of them is fitted on these clips. Their mean is then a little too cautious, never
overconfident by its making: its log loss is at most the mean of theirs, as the logarithm is concave.

To score a fold of the cross-validation, the temperature of its model is fitted on the clips of the other
folds alone (cross-fitting), so that nothing is chosen on scored clips. With test-time augmentation, too, the
mean over the shifts is what is calibrated.

Shape suffixes: B batch, C classes, N clips.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.calibration import (
    TEMPERATURES,
    best_temperature,
    binary_likelihood_at_temperatures,
    likelihood_at_temperatures,
)
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.evaluate import CHUNK_ROWS, AnyPredictions, score_any, write_any
from pipeline.classifier.evaluation_rows import check_classes
from pipeline.classifier.inference import predict_logits
from pipeline.classifier.multi_label.evaluation import LabelSetPredictions, best_thresholds
from pipeline.classifier.predictor_model import EnsembleRecord, PredictorModel, combine, load_predictor
from pipeline.classifier.refit import VALIDATED_NAME
from pipeline.data.dataset import ShardDataset
from pipeline.data.label_sets import label_sets, row_labels
from pipeline.data.loader import batch_slices
from pipeline.data.split import split_rows
from pipeline.data.uncached import open_dataset_to_read
from pipeline.distributed.devices import driver_device

# Probabilities within this of 0 or 1 are those of rounding.
MIN_PROBABILITY = 1e-7


@dataclass(frozen=True)
class RowLogits:
    """Logits of a model, divided by its own temperature, for rows that it was not trained on."""

    saved: PredictorModel
    rows: np.ndarray
    """Indices of the rows `[shape=(N,)]`."""
    values: np.ndarray
    """Logits of the mean over the shifts of test-time augmentation, float32 `[shape=(N, C)]`."""


def calibrate_ensemble(
    config: TrainClassifierConfig, runs: Sequence[Path]
) -> tuple[dict[str, Any], dict[str, float]]:
    """Fit and evaluate an ensemble on the validation clips, and write its evaluation to the run folder.

    The models of runs that were trained again on all clips are replaced by their validated ones.

    Args:
        config: settings of the ensemble.
        runs: runs of its members.

    Returns:
        Values for `ensemble.json`, and metrics for `summary.json`.
    """
    device = driver_device(config.device)
    validated = [run / VALIDATED_NAME if config.refit else run for run in runs]
    ensemble = combine(
        EnsembleRecord(validated), [load_predictor(run) for run in validated], f"--run {config.run}"
    )
    dataset = open_dataset_to_read(config.shards)
    logits = predict_row_logits(ensemble, dataset, split_rows(dataset, config).val, 1, device)
    record, metrics = calibrate_logits(config.run, logits, dataset, "validation clips")
    names = ("accuracy", "map", "macro_f1", "log_loss", "ece")
    return record, {
        **{f"val_{name}": metrics[name] for name in names if name in metrics},
        "temperature": record["temperature"],
    }


def calibrate_logits(
    run: Path, logits: RowLogits, dataset: ShardDataset, description: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fit an ensemble on labeled clips, and write its evaluation on them to the run folder.

    Args:
        run: folder of the ensemble.
        logits: of the ensemble for these clips.
        dataset: dataset of the clips.
        description: what the clips are.

    Returns:
        Temperature and thresholds for `ensemble.json`, and the metrics.
    """
    record: dict[str, Any] = {"temperature": fit_temperature([logits], dataset)}
    predictions = predictions_at(record["temperature"], logits, dataset)
    if isinstance(predictions, LabelSetPredictions):
        record["thresholds"] = best_thresholds(predictions, logits.saved.metadata.class_names)
        predictions = replace(predictions, thresholds=np.array(list(record["thresholds"].values())))
    return record, write_any(run, predictions, logits.saved, [], description, 1)


def predict_row_logits(
    saved: PredictorModel, dataset: ShardDataset, rows: np.ndarray, tta_shifts: int, device: torch.device
) -> RowLogits:
    """Predict rows of a dataset that a model was not trained on, on `device`, to which the model is moved.

    Raises:
        UserError: as `check_classes`.
    """
    check_classes(dataset, rows, saved)
    model = saved.model.to(device)
    # In a file: those of many rows and classes do not fit into memory.
    with tempfile.TemporaryFile() as file:
        values = np.memmap(file, np.float32, "w+", shape=(len(rows), model.num_classes))
    for chunk in batch_slices(len(rows), CHUNK_ROWS):
        values[chunk] = predict_logits(model, dataset.mels[rows[chunk]], tta_shifts, device)
    return RowLogits(saved, rows, values)


def predictions_at(temperature: float, logits: RowLogits, dataset: ShardDataset) -> AnyPredictions:
    """Divide the logits of a model by a temperature, from now on, and return its predictions of the rows."""
    saved = with_temperature(logits.saved, temperature)

    def probabilities(chunk: slice) -> np.ndarray:
        logits_BC = torch.from_numpy(logits.values[chunk]) / temperature
        return (logits_BC.sigmoid() if saved.metadata.multi_label else logits_BC.softmax(1)).numpy()

    return score_any(saved, dataset, logits.rows, probabilities)


def fit_temperature(logits: Sequence[RowLogits], dataset: ShardDataset) -> float:
    """Return the one temperature by which to divide the logits of models, after their own temperatures.

    Args:
        logits: of models of the same classes.
        dataset: dataset of the rows.
    """
    return best_temperature(np.sum(_likelihoods(logits, dataset), axis=0))


def cross_fit_temperatures(logits: Sequence[RowLogits], dataset: ShardDataset) -> tuple[list[float], float]:
    """Return the temperature of each model fitted on the rows of all others, and that of `fit_temperature`.

    Arguments as `fit_temperature`; there are at least two models.
    """
    likelihoods = _likelihoods(logits, dataset)
    total_K = np.sum(likelihoods, axis=0)
    return [best_temperature(total_K - own_K) for own_K in likelihoods], best_temperature(total_K)


def with_temperature(saved: PredictorModel, temperature: float) -> PredictorModel:
    """Divide the logits of a model by a temperature, in addition to its own, in place; return the model.

    The thresholds of a multi-label model change with its probabilities: it predicts the same classes.
    """
    saved.model.temperature *= temperature
    if saved.metadata.thresholds is None:
        return saved
    thresholds = torch.tensor(saved.metadata.thresholds, dtype=torch.float64)
    scaled = (torch.logit(thresholds, eps=MIN_PROBABILITY) / temperature).sigmoid()
    return replace(saved, metadata=saved.metadata.model_copy(update={"thresholds": tuple(scaled.tolist())}))


def _likelihoods(logits: Sequence[RowLogits], dataset: ShardDataset) -> list[np.ndarray]:
    """Return the negative log likelihood at each temperature `[shape=(K,)]` of each model on its rows.

    Labels are smoothed as suits the number of rows of all models; arguments as `fit_temperature`.
    """
    clips = sum(len(part.rows) for part in logits)
    if logits[0].saved.metadata.multi_label:
        return _binary_likelihoods(logits, dataset, clips)
    likelihoods = []
    for part in logits:
        labels = row_labels(
            dataset.table.iloc[part.rows], part.saved.metadata.class_names, dataset.multi_label
        )
        likelihood_K = torch.zeros(len(TEMPERATURES), dtype=torch.float64)
        for chunk in batch_slices(len(labels), CHUNK_ROWS):
            logits_BC, label_B = torch.from_numpy(part.values[chunk]), torch.from_numpy(labels[chunk])
            likelihood_K += likelihood_at_temperatures(logits_BC, label_B, clips)
        likelihoods.append(likelihood_K.numpy())
    return likelihoods


def _binary_likelihoods(logits: Sequence[RowLogits], dataset: ShardDataset, clips: int) -> list[np.ndarray]:
    """Return the likelihoods of multi-label models; arguments as `_likelihoods`."""
    targets = [
        label_sets(dataset.table.iloc[part.rows], part.saved.metadata.class_names, dataset.multi_label)[:]
        for part in logits
    ]
    present_C = torch.from_numpy(np.sum([target.sum(axis=0) for target in targets], axis=0)).float()
    likelihoods = []
    for part, target in zip(logits, targets, strict=True):
        likelihood_K = torch.zeros(len(TEMPERATURES), dtype=torch.float64)
        for chunk in batch_slices(len(target), CHUNK_ROWS):
            logits_BC = torch.from_numpy(part.values[chunk])
            target_BC = torch.from_numpy(target[chunk].astype(np.float32))
            likelihood_K += binary_likelihood_at_temperatures(logits_BC, target_BC, present_C, clips)
        likelihoods.append(likelihood_K.numpy())
    return likelihoods
