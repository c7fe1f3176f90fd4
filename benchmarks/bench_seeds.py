"""Accuracy over seeds, and of the models of all seeds as an ensemble, of cross-validations that differ in it.

    melray crossval --shards SHARDS --run RUN --seed 42    (and further runs with other seeds)
    python -m benchmarks.bench_seeds --runs RUN ...

Each fold is predicted by the models that held it out. Temperatures are fitted on the other folds.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench_calibration import Scored, calibrated, mean
from benchmarks.common import save_result
from pipeline.classifier.command_configs import EvaluateConfig
from pipeline.classifier.evaluation_rows import select_rows
from pipeline.classifier.inference import predict_probabilities
from pipeline.classifier.predictor_model import load_predictor
from pipeline.training.run_content import CROSSVAL_NAME
from pipeline.training.run_folder import RunFolder


def predict_folds(run: Path) -> list[Scored]:
    """Return what the model of each fold of a cross-validation predicts for its held-out clips."""
    folds = RunFolder(run).read_json(CROSSVAL_NAME)["folds"]
    return [predict_held_out(run / f"fold_{fold['fold']}") for fold in folds]


def predict_held_out(run: Path) -> Scored:
    """Return what the model of a run predicts for its held-out clips."""
    saved = load_predictor(run)
    dataset, rows, _ = select_rows(EvaluateConfig(run=run, split="held-out"), saved)
    mels = np.stack([dataset.mels[row] for row in rows])
    return Scored(predict_probabilities(saved.model, mels), dataset.labels[rows])


def summarize(folds: list[Scored]) -> dict[str, Any]:
    """Return the accuracy of each fold and the mean, and the scores of all clips, calibrated."""
    accuracies = [fold.summary()["accuracy"] for fold in folds]
    return {
        "folds": accuracies,
        "mean": float(np.mean(accuracies)),
        "std_over_folds": float(np.std(accuracies, ddof=1)),
        "clips": Scored.join(calibrated(folds)).summary(),
    }


def count_mistakes(seeds: list[list[Scored]]) -> list[int]:
    """Return the number of clips that are mistaken with 0, 1, … of the seeds."""
    joined = [Scored.join(folds) for folds in seeds]
    is_wrong = np.array([clips.probabilities.argmax(1) != clips.labels for clips in joined])
    return np.bincount(is_wrong.sum(axis=0), minlength=len(seeds) + 1).tolist()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--result", default="seeds", help="name of the result file")
    parser.add_argument("--runs", type=Path, nargs="+", required=True)
    options = parser.parse_args()
    seeds = [predict_folds(run) for run in options.runs]
    singles = [summarize(folds) for folds in seeds]
    means = [single["mean"] for single in singles]
    result: dict[str, Any] = {
        "seeds": singles,
        "mean": float(np.mean(means)),
        "std_over_seeds": float(np.std(means, ddof=1)) if len(means) > 1 else None,
        "clips_by_seeds_that_mistake_them": count_mistakes(seeds),
        "mean_ece": float(np.mean([single["clips"]["ece"] for single in singles])),
        # Members at their own temperatures, as `predict` averages them; then the mean is calibrated itself.
        "ensemble": summarize(
            [mean(parts) for parts in zip(*(calibrated(folds) for folds in seeds), strict=True)]
        ),
    }
    save_result(options.result, result)


if __name__ == "__main__":
    main()
