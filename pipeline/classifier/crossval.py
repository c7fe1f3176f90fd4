"""Cross-validation: each fold is held out once, from a run that neither trains nor validates on it.

By default the runs do not validate at all: each trains for all its epochs and keeps the last EMA weights, so
that nothing is selected on the scored clips. Runs of one worker train concurrently if resources allow.

What needs clips that a model was not trained on is fitted on those of the other folds, as predicted by their
models: the temperature that calibrates probabilities, and the thresholds at which several labels are scored.
The models together predict with those fitted on the clips of all folds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.classifier.command_configs import EvaluateConfig
from pipeline.classifier.config import CrossvalConfig, TrainClassifierConfig
from pipeline.classifier.ensemble_calibration import (
    RowLogits,
    cross_fit_temperatures,
    predict_row_logits,
    predictions_at,
)
from pipeline.classifier.evaluate import AnyPredictions, join_predictions, write_any
from pipeline.classifier.evaluation_rows import select_rows
from pipeline.classifier.multi_label.evaluation import (
    LabelSetPredictions,
    best_thresholds,
    with_cross_thresholds,
)
from pipeline.classifier.predictor_model import PredictorModel, load_predictor
from pipeline.classifier.train import train_many
from pipeline.data.clips import NO_FOLD
from pipeline.data.dataset import ShardDataset
from pipeline.data.split import row_folds
from pipeline.data.uncached import open_dataset_to_read
from pipeline.distributed.devices import driver_device
from pipeline.io.console import duration, logger
from pipeline.io.errors import UserError
from pipeline.io.text import plural
from pipeline.report.page import number
from pipeline.training.failed_start import removed_if_not_started
from pipeline.training.run import log_once
from pipeline.training.run_content import CROSSVAL_NAME, check_run_folder
from pipeline.training.run_folder import RunFolder
from pipeline.training.trackers.tracking import tracked

# Metrics of the results, for runs with one class per clip and multi-label runs; the first is their main one.
SCORES = {
    False: ("accuracy", "macro_f1", "log_loss", "ece"),
    True: ("map", "macro_f1", "padded_map", "roc_auc", "micro_f1", "log_loss", "ece"),
}


def crossval(config: CrossvalConfig) -> dict[str, Any]:
    """Train unfinished runs, evaluate each fold, write `crossval.json` and `report.html`; return the results.

    Raises:
        UserError: no folds, unusable shards, too few resources, or a folder of another command.
    """
    check_folder(config.run, tuned=False)
    log_once(config.ineffective_settings)
    dataset = open_dataset_to_read(config.shards)
    folds = known_folds(dataset, config)
    config.run.mkdir(parents=True, exist_ok=True)
    runs = {fold: fold_config(config, fold) for fold in folds}
    with tracked(config):
        with removed_if_not_started(config.run):
            train_many({f"fold {fold}": run for fold, run in runs.items()})
        return report_folds(config, dataset, runs)


def check_folder(run: Path, tuned: bool) -> None:
    """Check that the folder of a cross-validation, with or without --tuned, is not that of something else.

    Raises:
        UserError: it has results of another command, or of a cross-validation of the other kind, whose report
            would be replaced.
    """
    check_run_folder(run, ("cross-validation with --tuned" if tuned else "cross-validation without --tuned",))


def known_folds(dataset: ShardDataset, config: TrainClassifierConfig) -> list[int]:
    """Return the numbers of the folds, in order.

    Raises:
        UserError: if there are fewer than two.
    """
    folds = sorted(set(row_folds(dataset, config).tolist()) - {NO_FOLD})
    if len(folds) < 2:
        raise UserError(
            f"--shards {config.shards}: {len(folds)} folds; "
            "add --num-folds 5, or extract with --fold-pattern or a CSV column 'fold'"
        )
    return folds


def fold_config(config: CrossvalConfig, fold: int) -> TrainClassifierConfig:
    """Return the settings of the run that holds `fold` out, in a subfolder of the run."""
    return config.subset(TrainClassifierConfig).model_copy(
        update={"fold": fold, "run": config.run / f"fold_{fold}"}
    )


def report_folds(
    config: CrossvalConfig, dataset: ShardDataset, runs: dict[int, TrainClassifierConfig]
) -> dict[str, Any]:
    """Evaluate every fold on its held-out clips, and all folds together; write and return the results.

    Args:
        config: settings of the cross-validation; the results are written to its run folder.
        dataset: dataset with all folds.
        runs: settings of the completed run of each held-out fold.
    """
    device = driver_device(config.device)
    logits: list[RowLogits] = []
    descriptions: list[str] = []
    for train_config in runs.values():
        saved = load_predictor(train_config.run)
        _, rows, description = select_rows(EvaluateConfig(run=train_config.run, split="held-out"), saved)
        logits.append(predict_row_logits(saved, dataset, rows, config.tta_shifts, device))
        descriptions.append(description)
    temperatures, member_temperature = cross_fit_temperatures(logits, dataset)
    predictions, note = _at_cross_thresholds(
        [
            predictions_at(temperature, fold_logits, dataset)
            for temperature, fold_logits in zip(temperatures, logits, strict=True)
        ]
    )
    keys = SCORES[saved.metadata.multi_label]
    fold_results: list[dict[str, Any]] = []
    for i, (fold, train_config) in enumerate(runs.items()):
        run, description = RunFolder(train_config.run), descriptions[i] + note
        metrics = write_any(
            run.path, predictions[i], logits[i].saved, run.read_history(), description, config.tta_shifts
        )
        fold_results.append(
            {"fold": fold, "train_seconds": run.read_json("summary.json")["total_seconds"]}
            | {key: metrics[key] for key in keys}
            | {"temperature": temperatures[i]}
        )
    pooled = join_predictions(dataset, predictions)
    description = f"{len(runs)} folds, each held out once{note}"
    model = _of_all_folds([fold_logits.saved for fold_logits in logits])
    pooled_metrics = write_any(config.run, pooled, model, [], description, config.tta_shifts)
    results: dict[str, Any] = {
        "folds": fold_results,
        "mean": {key: _statistic(np.mean, fold_results, key) for key in keys},
        "std": {key: _statistic(partial(np.std, ddof=1), fold_results, key) for key in keys},
        "pooled": {key: pooled_metrics[key] for key in keys},
        "member_temperature": member_temperature,
        # Also of those that were trained by earlier commands, which were interrupted.
        "seconds": sum(fold["train_seconds"] for fold in fold_results),
    }
    if isinstance(pooled, LabelSetPredictions):
        results["thresholds"] = best_thresholds(pooled, saved.metadata.class_names)
    RunFolder(config.run).write_json(CROSSVAL_NAME, results)
    if unscored := int((dataset.table["copy"] == 0).sum()) - len(pooled.rows):
        logger.warning(
            "%s without a fold: trained on in every run, and never scored", plural(unscored, "clip")
        )
    _print_results(results)
    seconds = duration(results["seconds"])
    print(f"training of all folds: {seconds}; report: {config.run / 'report.html'}", flush=True)
    return results


def _of_all_folds(models: list[PredictorModel]) -> PredictorModel:
    """Return the last model with the settings that all have and without its epoch, for the report of all."""
    *others, last = [model.metadata.training.get("config") or {} for model in models]
    common = {key: value for key, value in last.items() if all(other.get(key) == value for other in others)}
    return replace(
        models[-1], metadata=models[-1].metadata.model_copy(update={"training": {"config": common}})
    )


def _at_cross_thresholds(predictions: list[AnyPredictions]) -> tuple[list[AnyPredictions], str]:
    """Return multi-label predictions of folds at thresholds chosen on the other folds, and a note on that."""
    parts = [part for part in predictions if isinstance(part, LabelSetPredictions)]
    if not parts:
        return predictions, ""
    return [*with_cross_thresholds(parts)], ", at thresholds chosen on the other folds"


def _statistic(function: Callable[[list[float]], Any], folds: list[dict[str, Any]], key: str) -> float | None:
    """Return a statistic of a metric over the folds; None if it is undefined in one of them."""
    values = [fold[key] for fold in folds]
    return None if None in values else float(function(values))


def main_score(results: dict[str, Any]) -> tuple[str, str]:
    """Return the key of the main metric in the results of a cross-validation, and its name."""
    if "map" in results["mean"]:
        return "map", "macro average precision"
    return "accuracy", "accuracy"


def _print_results(results: dict[str, Any]) -> None:
    key, name = main_score(results)
    mean, std = results["mean"], results["std"]
    for fold in results["folds"]:
        score, f1 = number(fold[key], ".1%"), number(fold["macro_f1"], ".3f")
        print(f"fold {fold['fold']}: {name} {score}, macro-F1 {f1}")
    score, f1 = f"{number(mean[key], '.1%')} ± {number(std[key], '.1%')}", number(mean["macro_f1"], ".3f")
    print(f"mean of {len(results['folds'])} folds: {name} {score}, macro-F1 {f1}")
    pooled = results["pooled"]
    print(f"clips of all folds: log loss {pooled['log_loss']:.3f}, calibration error {pooled['ece']:.3f}")
