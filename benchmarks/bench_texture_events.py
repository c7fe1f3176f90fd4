"""What texture statistics add to multi-label classifiers of the windows of soundscapes.

    python -m benchmarks.bench_soundscapes --esc10 ESC-10 --out FOLDER
    python -m benchmarks.bench_texture_events --runs FOLDER/runs/multi-label_*_selection

Each run scores the windows that it left out, by the mean of its heads' logits with several weights, and with
the weight that has the lowest cross-entropy in the runs of other folds. Both heads are trained independently
of each other, so that the first alone is what a network without texture statistics would be.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score

from benchmarks.bench_texture import WEIGHTS, score_held_out
from benchmarks.common import save_result

Scores = dict[str, dict[str, float]]


def score_run(run: Path) -> tuple[int | None, Scores]:
    """Return the fold of a run; average precision and cross-entropy of its windows, by weight of texture."""
    fold, dataset, split, _, logits_BHC = score_held_out(run)
    target_BC = dataset.targets[split.held_out]
    present = target_BC.any(axis=0)
    scores = {}
    for weight in WEIGHTS:
        logits_BC = torch.lerp(logits_BHC[:, 0], logits_BHC[:, 1], weight)
        loss = F.binary_cross_entropy_with_logits(logits_BC, torch.from_numpy(target_BC).float())
        precision = average_precision_score(target_BC[:, present], logits_BC[:, present].numpy())
        scores[f"{weight:g}"] = {"macro_ap": float(precision), "loss": float(loss)}
    return fold, scores


def mean_scores(scores: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each score."""
    return {key: float(np.mean([score[key] for score in scores])) for key in scores[0]}


def score_with_weights_of_other_folds(runs: Sequence[Scores], folds: Sequence[int | None]) -> dict[str, Any]:
    """Return the mean scores of runs with the weights that are best for the runs of all other folds."""
    weights: dict[str, str] = {}
    for fold in sorted(set(folds), key=str):
        others = [run for run, other in zip(runs, folds, strict=True) if other != fold]
        losses = {weight: mean_scores([run[weight] for run in others])["loss"] for weight in runs[0]}
        weights[str(fold)] = min(losses, key=lambda weight: losses[weight])
    chosen = [run[weights[str(fold)]] for run, fold in zip(runs, folds, strict=True)]
    return {"weights": weights, **mean_scores(chosen)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=Path, nargs="+", required=True)
    parser.add_argument("--result", default="texture_events", help="name of the result file")
    options = parser.parse_args()
    folds, scores = zip(*(score_run(run) for run in options.runs), strict=True)
    names = [run.name for run in options.runs]
    result: dict[str, Any] = {"mean": {}, "runs": dict(zip(names, scores, strict=True))}
    for weight in (f"{weight:g}" for weight in WEIGHTS):
        result["mean"][weight] = mean_scores([run[weight] for run in scores])
        print(f"{weight}: {result['mean'][weight]}")
    if len(set(folds)) > 1:
        chosen = score_with_weights_of_other_folds(scores, folds)
        result["with_weights_of_other_folds"] = chosen
        print(f"with weights of other folds: {chosen}")
    save_result(options.result, result)


if __name__ == "__main__":
    main()
