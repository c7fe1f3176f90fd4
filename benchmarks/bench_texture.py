"""What texture statistics add: each head of trained classifiers by itself, their mean, and an SVM.

    melray crossval --shards SHARDS --run RUN --seed 42    (and further runs with other seeds)
    python -m benchmarks.bench_texture --runs RUN_42/fold_* --runs RUN_43/fold_* ...

Each run scores its held-out clips: by its two heads, and by an SVM on the texture statistics of the training
clips and their augmented copies. Logits are averaged with several weights, then calibrated by a temperature
from the other runs of the same seed. Both heads are trained independently of each other, so that the first
alone is what a network without texture statistics would be.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC
from torch import Tensor

from benchmarks.bench_calibration import Scored, calibrated
from benchmarks.bench_seeds import predict_held_out
from benchmarks.common import save_result
from models.repetition import repeat_short_clips
from models.texture import MAX_DEVIATIONS
from models.texture_statistics import texture_statistics
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.predictor_model import load_classifier
from pipeline.data.dataset import ShardDataset
from pipeline.data.split import Split
from pipeline.training.run import load_run_data

WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 2 / 3, 0.8, 1.0)


class Fold(NamedTuple):
    """Log probabilities of the held-out clips of a fold, and their classes."""

    convolutions: np.ndarray
    texture: np.ndarray
    svm: np.ndarray
    labels: np.ndarray


class HeldOut(NamedTuple):
    """Held-out clips of a run, and what each head of its model says of them."""

    fold: int | None
    dataset: ShardDataset
    split: Split
    mel_BMT: Tensor
    """Spectrograms in dB `[shape=(B, n_mels, num_frames)]`."""
    logits_BHC: Tensor
    """Logits of each head `[shape=(B, 2, C)]`."""


def score_held_out(run: Path) -> HeldOut:
    """Return the held-out clips of a run and the logits of its heads."""
    config, dataset, split = load_run_data(run, TrainClassifierConfig, "")
    model = load_classifier(run).model
    mel_BMT = torch.from_numpy(np.stack([dataset.mels[row] for row in split.held_out])).float()
    with torch.inference_mode():
        logits_BHC = torch.cat([model(batch, separate_heads=True) for batch in mel_BMT.split(64)])
    return HeldOut(config.fold, dataset, split, mel_BMT, logits_BHC)


def predict_fold(run: Path) -> Fold:
    """Return what the heads of the model of a fold and an SVM predict for its held-out clips."""
    _, dataset, split, mel_BMT, logits_BHC = score_held_out(run)
    heads_BHC = logits_BHC.log_softmax(2).numpy()
    train_NK = np.concatenate([_statistics(dataset.mels[row][None]) for row in split.train])
    svm = make_pipeline(
        StandardScaler(),
        FunctionTransformer(np.clip, kw_args={"a_min": -MAX_DEVIATIONS, "a_max": MAX_DEVIATIONS}),
        SVC(C=5, probability=True, random_state=0),
    ).fit(train_NK, dataset.labels[split.train])
    return Fold(
        heads_BHC[:, 0],
        heads_BHC[:, 1],
        svm.predict_log_proba(_statistics(mel_BMT.numpy())),
        dataset.labels[split.held_out],
    )


def _statistics(mels: np.ndarray) -> np.ndarray:
    mel_BMT = torch.from_numpy(np.asarray(mels)).float()
    return texture_statistics(repeat_short_clips(mel_BMT)).numpy()


def weighted(
    first: Sequence[np.ndarray], second: Sequence[np.ndarray], labels: Sequence[np.ndarray]
) -> dict[str, Any]:
    """Return the scores of the mean of two models' logits, by the weight of the second."""
    scores = {}
    for weight in WEIGHTS:
        folds = mix(first, second, labels, weight)
        accuracies = [fold.summary()["accuracy"] for fold in folds]
        scores[f"{weight:.3g}"] = {
            "mean_accuracy": float(np.mean(accuracies)),
            "accuracies": accuracies,
            **{f"clips_{key}": value for key, value in Scored.join(calibrated(folds)).summary().items()},
        }
    return scores


def mix(
    first: Sequence[np.ndarray], second: Sequence[np.ndarray], labels: Sequence[np.ndarray], weight: float
) -> list[Scored]:
    """Return the predictions of the mean of two models' logits for each fold, not calibrated."""
    return [
        Scored(torch.from_numpy((1 - weight) * a + weight * b).softmax(1).numpy(), c)
        for a, b, c in zip(first, second, labels, strict=True)
    ]


def weighted_by_other_folds(
    first: Sequence[np.ndarray], second: Sequence[np.ndarray], labels: Sequence[np.ndarray]
) -> dict[str, Any]:
    """Return the scores of folds, each with the weight and temperature that are best for all others."""
    mixed = {weight: mix(first, second, labels, weight) for weight in WEIGHTS}
    scaled = {weight: calibrated(parts) for weight, parts in mixed.items()}
    weights, folds = [], []
    for fold in range(len(labels)):
        losses = {
            weight: Scored.join(parts[:fold] + parts[fold + 1 :]).at_best_temperature().summary()["log_loss"]
            for weight, parts in mixed.items()
        }
        weights.append(min(losses, key=lambda weight: losses[weight]))
        folds.append(scaled[weights[-1]][fold])
    accuracies = [fold.summary()["accuracy"] for fold in folds]
    return {
        "weights": weights,
        "mean_accuracy": float(np.mean(accuracies)),
        "accuracies": accuracies,
        **{f"clips_{key}": value for key, value in Scored.join(folds).summary().items()},
    }


def score_seed(runs: Sequence[Path], added: Sequence[Path]) -> dict[str, Any]:
    """Return the scores of the runs of a seed.

    "by_weight" has them by what is averaged and with which weight, "by_other_folds" those of both heads, each
    fold with the weight that is best for the others.
    """
    folds = [predict_fold(run) for run in runs]
    labels = [fold.labels for fold in folds]
    convolutions, texture, svm = ([fold[i] for fold in folds] for i in range(3))
    scores = {
        "heads_by_weight_of_texture": weighted(convolutions, texture, labels),
        "convolutions_and_svm_by_weight_of_svm": weighted(convolutions, svm, labels),
    }
    if added:
        others = [np.log(np.maximum(predict_held_out(run).probabilities, 1e-30)) for run in added]
        scores["added_and_svm_by_weight_of_svm"] = weighted(others, svm, labels)
    return {
        "by_weight": scores,
        "by_other_folds": weighted_by_other_folds(convolutions, texture, labels),
    }


def summarize(seeds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return mean and standard deviation over seeds of the accuracy, and the mean log loss."""
    summary: dict[str, Any] = {}
    for name, weights in seeds[0].items():
        summary[name] = {}
        for weight in weights:
            scores = [seed[name][weight] for seed in seeds]
            means = [score["mean_accuracy"] for score in scores]
            summary[name][weight] = {
                "accuracy": float(np.mean(means)),
                "std_over_seeds": float(np.std(means, ddof=1)) if len(means) > 1 else None,
                "log_loss": float(np.mean([score["clips_log_loss"] for score in scores])),
                "ece": float(np.mean([score["clips_ece"] for score in scores])),
            }
    return summary


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--runs", type=Path, nargs="+", action="append", required=True, help="runs of a seed; repeatable"
    )
    parser.add_argument(
        "--add",
        type=Path,
        nargs="+",
        action="append",
        help="other runs of the same folds, for each --runs, whose models are averaged with the SVM",
    )
    parser.add_argument("--result", default="texture", help="name of the result file")
    options = parser.parse_args()
    seeds = [
        score_seed(runs, added)
        for runs, added in zip(options.runs, options.add or [[]] * len(options.runs), strict=True)
    ]
    result: dict[str, Any] = {
        "summary": summarize([seed["by_weight"] for seed in seeds]),
        "seeds": [seed["by_weight"] for seed in seeds],
        "heads_with_weights_of_other_folds": [seed["by_other_folds"] for seed in seeds],
    }
    for name, scores in result["summary"].items():
        print(name)
        for weight, score in scores.items():
            print(f"  {weight}: {score['accuracy']:.1%}, log loss {score['log_loss']:.3f}")
    save_result(options.result, result)


if __name__ == "__main__":
    main()
