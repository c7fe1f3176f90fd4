"""What texture statistics add to multi-label classifiers of the windows of soundscapes.

    python -m benchmarks.bench_soundscapes --esc10 ESC-10 --out FOLDER
    python -m benchmarks.bench_texture_events --runs FOLDER/runs/multi-label_*_selection

Each run scores the windows that it left out, by the mean of its heads' logits with several weights. Both
heads are trained independently of each other, so that the first alone is what a network without texture
statistics would be.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score

from benchmarks.bench_texture import WEIGHTS, score_held_out
from benchmarks.common import save_result


def score_run(run: Path) -> dict[str, dict[str, float]]:
    """Return macro average precision and cross-entropy of the held-out windows, by the weight of texture."""
    dataset, split, _, logits_BHC = score_held_out(run)
    target_BC = dataset.targets[split.held_out]
    present = target_BC.any(axis=0)
    scores = {}
    for weight in WEIGHTS:
        logits_BC = torch.lerp(logits_BHC[:, 0], logits_BHC[:, 1], weight)
        loss = F.binary_cross_entropy_with_logits(logits_BC, torch.from_numpy(target_BC).float())
        precision = average_precision_score(target_BC[:, present], logits_BC[:, present].numpy())
        scores[f"{weight:g}"] = {"macro_ap": float(precision), "loss": float(loss)}
    return scores


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=Path, nargs="+", required=True)
    parser.add_argument("--result", default="texture_events", help="name of the result file")
    options = parser.parse_args()
    runs = {run.name: score_run(run) for run in options.runs}
    result: dict[str, Any] = {"mean": {}, "runs": runs}
    for weight in (f"{weight:g}" for weight in WEIGHTS):
        scores = [run[weight] for run in runs.values()]
        result["mean"][weight] = {key: float(np.mean([score[key] for score in scores])) for key in scores[0]}
        print(f"{weight}: {result['mean'][weight]}")
    save_result(options.result, result)


if __name__ == "__main__":
    main()
