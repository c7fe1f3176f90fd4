"""What choosing the epoch on the scored fold would add to the accuracy of a cross-validation.

    python -m benchmarks.bench_epoch_choice --shards SHARDS --out FOLDER

Published trainers on ESC-10 and ESC-50, such as that of ACDNet, evaluate the held-out fold after every epoch
and report the best one, so the fold that scores also chooses. `melray crossval` takes the last epoch. Here
the same run is scored both ways: it is that of `melray crossval`, on all other folds.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import held_out_scores, save_result


def train_and_score(arguments: tuple[Path, Path, int, int]) -> None:
    """Train with a fold left out; append the scores of the fold after each epoch to a file, by epoch."""
    import torch

    from pipeline.classifier.config import TrainClassifierConfig
    from pipeline.classifier.loop import train_loop
    from pipeline.classifier.train import begin_run
    from pipeline.training.world import World

    shards, out, fold, seed = arguments
    torch.set_num_threads(1)
    config = TrainClassifierConfig(
        shards=shards, run=out / f"fold_{fold}", fold=fold, seed=seed, val_fraction=0.0
    )
    if begin_run(config) is not None:  # complete
        return

    def score(metrics: dict[str, Any]) -> None:
        scores = held_out_scores(config.run)
        line = {"epoch": metrics["epoch"], "accuracy": scores["accuracy"], "log_loss": scores["log_loss"]}
        with epochs_path(out, fold).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(f"fold {fold}: {line}", flush=True)

    train_loop(config, World(rank=0, size=1, device=torch.device("cpu"), report=score))


def epochs_path(out: Path, fold: int) -> Path:
    """Return the path of the scores of a fold."""
    return out / f"fold_{fold}.jsonl"


def read_accuracies(out: Path, folds: Sequence[int]) -> np.ndarray:
    """Return the accuracy of each fold after each epoch `[shape=(folds, epochs)]`."""
    accuracies = []
    for fold in folds:
        lines = map(json.loads, epochs_path(out, fold).read_text(encoding="utf-8").splitlines())
        by_epoch = {line["epoch"]: line["accuracy"] for line in lines}
        accuracies.append([by_epoch[epoch] for epoch in sorted(by_epoch)])
    return np.array(accuracies)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--folds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--seed", type=int, default=42)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    tasks = [(options.shards, options.out, fold, options.seed) for fold in options.folds]
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        for _ in pool.imap_unordered(train_and_score, tasks):
            pass
    accuracy_FE = read_accuracies(options.out, options.folds)
    last, best = accuracy_FE[:, -1], accuracy_FE.max(axis=1)
    save_result(
        "epoch_choice",
        {
            "folds": options.folds,
            "seed": options.seed,
            "last_epoch": last.tolist(),
            "last_epoch_mean": float(last.mean()),
            "best_epoch_of_each_fold": best.tolist(),
            "best_epoch_of_each_fold_mean": float(best.mean()),
            "best_common_epoch_mean": float(accuracy_FE.mean(axis=0).max()),
            "mean_of_last_20_epochs": float(accuracy_FE[:, -20:].mean()),
        },
    )


if __name__ == "__main__":
    main()
