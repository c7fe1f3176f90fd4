"""Temperature of a model whose probabilities are means, on labeled clips.

The mean of calibrated probabilities is too cautious wherever the members disagree (Rahaman and Thiery 2021;
Wu and Gales 2021). So an ensemble is calibrated after averaging: one temperature of the logarithm of its
mean, fitted on the validation clips, which none of its members was trained on. The members' own temperatures
are kept: they give a member with extreme logits no more weight than the others.

The models of a cross-validation have no clips in common that none of them was trained on, so their mean
cannot be calibrated itself. Its members can: each predicts the clips of its fold, and one temperature for all
of them is fitted on these clips.

Shape suffixes: B batch, C classes, N clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.calibration import (
    TEMPERATURES,
    best_temperature,
    binary_likelihood_at_temperatures,
    likelihood_at_temperatures,
)
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.evaluate import CHUNK_ROWS, predict_any, write_any
from pipeline.classifier.inference import predict_probabilities
from pipeline.classifier.multi_label.evaluation import LabelSetPredictions, best_thresholds
from pipeline.classifier.predictor_model import AnyClassifier, EnsembleRecord, combine, load_predictor
from pipeline.classifier.refit import VALIDATED_NAME
from pipeline.data.dataset import ShardDataset
from pipeline.data.label_sets import label_sets, row_labels
from pipeline.data.loader import batch_slices
from pipeline.data.split import split_rows
from pipeline.data.uncached import open_dataset_to_read
from pipeline.distributed.devices import driver_device

# Probabilities below, or within this of 1, are those of rounding.
MIN_PROBABILITY, MIN_BINARY_PROBABILITY = 1e-30, 1e-7


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
    ensemble = combine(EnsembleRecord(validated), [load_predictor(run) for run in validated], config.run)
    dataset = open_dataset_to_read(config.shards)
    rows = split_rows(dataset, config).val
    record: dict[str, Any] = {"temperature": fit_temperature([(ensemble, rows)], dataset, device)}
    ensemble.model.temperature = record["temperature"]
    predictions = predict_any(ensemble, dataset, rows, 1, device)
    if isinstance(predictions, LabelSetPredictions):
        record["thresholds"] = best_thresholds(predictions, ensemble.metadata.class_names)
        predictions = replace(predictions, thresholds=np.array(list(record["thresholds"].values())))
    metrics = write_any(config.run, predictions, ensemble, [], "validation clips", 1)
    names = ("accuracy", "map", "macro_f1", "log_loss", "ece")
    return record, {
        **{f"val_{name}": metrics[name] for name in names if name in metrics},
        "temperature": record["temperature"],
    }


def fit_temperature(
    models: Sequence[tuple[AnyClassifier, np.ndarray]], dataset: ShardDataset, device: torch.device
) -> float:
    """Return the one temperature by which to divide the logits of models, after their own temperatures.

    Args:
        models: models of the same classes, each with the rows that it was not trained on.
        dataset: dataset of these rows.
        device: device of the computation, to which the models are moved.
    """
    names = models[0][0].metadata.class_names
    if models[0][0].metadata.multi_label:
        return _fit_binary(models, dataset, device)
    clips = sum(len(rows) for _, rows in models)
    likelihood_K = torch.zeros(len(TEMPERATURES), dtype=torch.float64)
    for saved, rows in models:
        labels = row_labels(dataset.table.iloc[rows], names, dataset.multi_label)
        for chunk in batch_slices(len(rows), CHUNK_ROWS):
            logits_BC = _probabilities(saved, dataset, rows[chunk], device).clamp(min=MIN_PROBABILITY).log()
            likelihood_K += likelihood_at_temperatures(logits_BC, torch.from_numpy(labels[chunk]), clips)
    return best_temperature(likelihood_K.numpy())


def _fit_binary(
    models: Sequence[tuple[AnyClassifier, np.ndarray]], dataset: ShardDataset, device: torch.device
) -> float:
    """Fit the temperature of multi-label models; arguments as `fit_temperature`."""
    logits, targets = [], []
    for saved, rows in models:
        table = dataset.table.iloc[rows]
        classes = label_sets(table, saved.metadata.class_names, dataset.multi_label)[:]
        targets.append(torch.from_numpy(classes.astype(np.float32)))
        logits += [
            torch.logit(_probabilities(saved, dataset, rows[chunk], device), eps=MIN_BINARY_PROBABILITY)
            for chunk in batch_slices(len(rows), CHUNK_ROWS)
        ]
    likelihood_K = binary_likelihood_at_temperatures(torch.cat(logits), torch.cat(targets))
    return best_temperature(likelihood_K.numpy())


def _probabilities(
    saved: AnyClassifier, dataset: ShardDataset, rows: np.ndarray, device: torch.device
) -> Tensor:
    return torch.from_numpy(predict_probabilities(saved.model.to(device), dataset.mels[rows], device=device))
