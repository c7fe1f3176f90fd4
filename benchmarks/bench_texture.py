"""What texture statistics add: each head of trained classifiers by itself, their mean, and an SVM.

    melray crossval --shards SHARDS --run RUN --model.texture
    python -m benchmarks.bench_texture --run RUN [--add RUN_WITHOUT_TEXTURE]

Every fold is predicted by what was trained on the others: the heads of its model, and an SVM on the texture
statistics of the training clips and their augmented copies. Logits are averaged with several weights, then
calibrated by a temperature from the other folds.
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

from benchmarks.bench_calibration import Scored, calibrated
from benchmarks.bench_seeds import predict_folds
from benchmarks.common import save_result
from models.repetition import repeat_short_clips
from models.texture import MAX_DEVIATIONS, texture_statistics
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.predictor_model import load_classifier
from pipeline.training.run import load_run_data
from pipeline.training.run_folder import CROSSVAL_NAME, RunFolder

WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)


class Fold(NamedTuple):
    """Log probabilities of the held-out clips of a fold, and their classes."""

    convolutions: np.ndarray
    texture: np.ndarray
    svm: np.ndarray
    labels: np.ndarray


def predict_fold(run: Path) -> Fold:
    """Return what the heads of the model of a fold and an SVM predict for its held-out clips."""
    _, dataset, split = load_run_data(run, TrainClassifierConfig, "")
    model = load_classifier(run).model
    held_out = torch.from_numpy(np.stack([dataset.mels[row] for row in split.held_out])).float()
    with torch.inference_mode():
        heads_BHC = model(held_out, separate_heads=True).log_softmax(2).numpy()
    train_NK = np.concatenate([_statistics(dataset.mels[row][None]) for row in split.train])
    svm = make_pipeline(
        StandardScaler(),
        FunctionTransformer(np.clip, kw_args={"a_min": -MAX_DEVIATIONS, "a_max": MAX_DEVIATIONS}),
        SVC(C=5, probability=True, random_state=0),
    ).fit(train_NK, dataset.labels[split.train])
    return Fold(
        heads_BHC[:, 0],
        heads_BHC[:, 1],
        svm.predict_log_proba(_statistics(held_out.numpy())),
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
        folds = [
            Scored(torch.from_numpy((1 - weight) * a + weight * b).softmax(1).numpy(), c)
            for a, b, c in zip(first, second, labels, strict=True)
        ]
        scores[f"{weight:g}"] = Scored.join(calibrated(folds)).summary()
    return scores


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", type=Path, required=True, help="cross-validation with --model.texture")
    parser.add_argument("--add", type=Path, help="one without, whose models are averaged with the SVM")
    parser.add_argument("--result", default="texture", help="name of the result file")
    options = parser.parse_args()
    numbers = [fold["fold"] for fold in RunFolder(options.run).read_json(CROSSVAL_NAME)["folds"]]
    folds = [predict_fold(options.run / f"fold_{number}") for number in numbers]
    labels = [fold.labels for fold in folds]
    svm = [fold.svm for fold in folds]
    convolutions = [fold.convolutions for fold in folds]
    result: dict[str, Any] = {
        "heads_by_weight_of_texture": weighted(convolutions, [fold.texture for fold in folds], labels),
        "svm_by_weight": weighted(convolutions, svm, labels),
    }
    if options.add is not None:
        others = [np.log(np.maximum(fold.probabilities, 1e-30)) for fold in predict_folds(options.add)]
        result["svm_by_weight_with_added"] = weighted(others, svm, labels)
    for name, scores in result.items():
        print(name)
        for weight, score in scores.items():
            print(f"  {weight}: {score['accuracy']:.1%}, log loss {score['log_loss']:.3f}")
    save_result(options.result, result)


if __name__ == "__main__":
    main()
