"""Calibration of an ensemble whose models have no held-out clips in common, as those of a cross-validation.

    python -m benchmarks.bench_calibration --scores FOLDER/scores/small [--variants NAME ... --seeds 1]

Reads the probabilities that `benchmarks.bench_recipe` saves. Each of its models left two folds out. For each
fold, the models that left it out predict it as an ensemble; their temperature is fitted on the other fold
that each of them left out, as a cross-validation of the remaining folds would do it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.bench_recipe import FOLDS, RING, VARIANTS, slug
from benchmarks.common import save_result
from models.calibration import best_temperature, likelihood_at_temperatures
from models.metrics import calibration_bins, calibration_error

SIMULATIONS = 200


class Scored(NamedTuple):
    """Probabilities of clips, and their classes."""

    probabilities: np.ndarray
    labels: np.ndarray

    @staticmethod
    def join(parts: Sequence[Scored]) -> Scored:
        """Return the clips of all parts."""
        return Scored(*(np.concatenate(values) for values in zip(*parts, strict=True)))

    @property
    def temperature(self) -> float:
        """The temperature that is best for these clips."""
        logits = torch.from_numpy(np.log(np.maximum(self.probabilities, 1e-30)))
        labels = torch.from_numpy(self.labels)
        return best_temperature(likelihood_at_temperatures(logits, labels, len(labels)).numpy())

    def scaled(self, temperature: float) -> Scored:
        """Return the clips with their logits divided by a temperature."""
        logits = torch.from_numpy(np.log(np.maximum(self.probabilities, 1e-30)))
        return Scored((logits / temperature).softmax(1).numpy(), self.labels)

    def at_best_temperature(self) -> Scored:
        """Return the clips at the temperature that is best for them."""
        return self.scaled(self.temperature)

    @property
    def ece(self) -> float:
        """Expected calibration error."""
        correct = self.probabilities.argmax(1) == self.labels
        return calibration_error(calibration_bins(self.probabilities.max(1), correct))

    def summary(self) -> dict[str, float]:
        """Return accuracy, log loss, calibration error, and mean confidence minus accuracy."""
        accuracy = float((self.probabilities.argmax(1) == self.labels).mean())
        true_probability = self.probabilities[np.arange(len(self.labels)), self.labels]
        return {
            "accuracy": accuracy,
            "log_loss": float(-np.log(np.maximum(true_probability, 1e-30)).mean()),
            "ece": self.ece,
            "overconfidence": float(self.probabilities.max(1).mean()) - accuracy,
        }


def members(fold: int, variant: str, options: argparse.Namespace) -> tuple[list[Scored], list[Scored]]:
    """Return what the models that left a fold out predict for it, and for the other fold they left out."""
    on_fold, on_other = [], []
    for pair in (pair for pair in RING if fold in pair):
        for seed in options.seeds:
            file = np.load(options.scores / f"{slug(variant)}_folds_{pair[0]}{pair[1]}_seed{seed}.npz")
            for clips, is_wanted in (
                (on_fold, file["fold"] == fold),
                (on_other, file["fold"] != fold),
            ):
                clips.append(Scored(file["shifts1"][is_wanted], file["label"][is_wanted]))
    return on_fold, on_other


def mean(parts: Sequence[Scored]) -> Scored:
    """Return the mean of predictions of the same clips."""
    return Scored(np.mean([part.probabilities for part in parts], axis=0), parts[0].labels)


def calibrated(folds: Sequence[Scored]) -> list[Scored]:
    """Return the predictions of each fold at the temperature that is best for all others."""
    return [
        fold.scaled(Scored.join([other for other in folds if other is not fold]).temperature)
        for fold in folds
    ]


def summarize(variant: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return the calibration of a variant: single models and their mean, before and after each step."""
    single, single_scaled, averaged, averaged_scaled = [], [], [], []
    for fold in FOLDS:
        on_fold, on_other = members(fold, variant, options)
        temperature = Scored.join(on_other).temperature
        scaled = [part.scaled(temperature) for part in on_fold]
        single.append(Scored.join(on_fold))
        single_scaled.append(Scored.join(scaled))
        averaged.append(mean(on_fold))
        averaged_scaled.append(mean(scaled))
    # What held-out clips of the ensemble itself would add, which a cross-validation does not have.
    refined = calibrated(averaged_scaled)
    steps = {
        "one model": single,
        "one model, with its temperature": single_scaled,
        "mean": averaged,
        "mean, with the temperature of its models": averaged_scaled,
        "mean, with another temperature of its own": refined,
    }
    return {name: Scored.join(parts).summary() for name, parts in steps.items()} | {
        "ece_of_perfect_calibration": perfect_calibration(averaged_scaled)
    }


def perfect_calibration(folds: Sequence[Scored]) -> dict[str, float]:
    """Return the mean calibration error of clips whose classes are sampled from their probabilities."""
    rng = np.random.default_rng(0)
    of_folds, of_all = [], []
    for _ in range(SIMULATIONS):
        parts = []
        for fold in folds:
            sums = fold.probabilities.astype(float).cumsum(1)
            labels = (rng.random((len(sums), 1)) * sums[:, -1:] > sums).sum(1)
            parts.append(Scored(fold.probabilities, labels))
        of_folds.append(np.mean([part.ece for part in parts]))
        of_all.append(Scored.join(parts).ece)
    return {"mean_of_folds": float(np.mean(of_folds)), "all_folds": float(np.mean(of_all))}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--scores", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--variants", nargs="+", default=["default"], choices=list(VARIANTS))
    options = parser.parse_args()
    save_result("calibration", {name: summarize(name, options) for name in options.variants})


if __name__ == "__main__":
    main()
