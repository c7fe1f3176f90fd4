"""Accuracy of settings of the classifier on validation parts of the training folds.

    melray extract --config conf/esc10-small-extract.yaml --copies 1 --data ESC-10 --out SHARDS
    python -m benchmarks.bench_recipe --shards SHARDS --fold 5 [--parts 1 2 3 4 --seeds 1 2 3 --epochs 60]

Each run trains on three of four parts of all folds but the held-out one, which is not used. It keeps its last
epoch, so that nothing is selected on the part that scores, and takes one core.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import save_result

PARTS = 4
SMALL = {"channels": (16, 32, 64, 128), "embedding_dim": 128}
NO_WARP = {"time_stretch": 0.0, "freq_shift": 0.0}
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "melray 0.2.0": {"model": {"padding": "silence"}, "spec_augment": NO_WARP},
    "without repetition": {"model": {"padding": "silence"}},
    "without stretch and shift": {"spec_augment": NO_WARP},
    "resnet-se": {"model": {"arch": "resnet-se"}},
    "mobilenet": {"model": {"arch": "mobilenet"}},
    "ensemble of 3": {"ensemble": 3},
}


def train(arguments: tuple[str, int, int, argparse.Namespace]) -> float:
    """Train one variant on all parts but one; return the accuracy on that one."""
    name, part, seed, options = arguments
    import torch

    from pipeline.classifier.config import TrainClassifierConfig
    from pipeline.classifier.train import begin_run, train_in_process

    torch.set_num_threads(1)
    settings = VARIANTS[name]
    with tempfile.TemporaryDirectory() as folder:
        config = TrainClassifierConfig(
            shards=options.shards,
            run=Path(folder) / "run",
            fold=options.fold,
            val_split=(part, PARTS),
            # Members have the seeds from this one on: those of two ensembles must not overlap.
            seed=seed if settings.get("ensemble") is None else 100 * seed,
            split_seed=seed,
            epochs=options.epochs,
            keep="last",
            **settings | {"model": SMALL | settings.get("model", {})},
        )
        begin_run(config)
        return float(train_in_process(config)["val_accuracy"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--fold", type=int, required=True, help="held-out fold, which is not used")
    parser.add_argument("--parts", type=int, nargs="+", default=list(range(1, PARTS + 1)))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    options = parser.parse_args()
    runs = list(itertools.product(options.variants, options.parts, options.seeds))
    context = multiprocessing.get_context("spawn")
    with context.Pool(os.cpu_count()) as pool:
        tasks = [(name, part, seed, options) for name, part, seed in runs]
        accuracies = dict(zip(runs, pool.map(train, tasks, chunksize=1), strict=True))
    result: dict[str, Any] = {"epochs": options.epochs, "parts": options.parts, "seeds": options.seeds}
    for name in options.variants:
        of_seed = [
            float(np.mean([accuracies[name, part, seed] for part in options.parts])) for seed in options.seeds
        ]
        std = float(np.std(of_seed, ddof=1)) if len(of_seed) > 1 else None
        result[name] = {
            "mean": float(np.mean(of_seed)),
            "std_over_seeds": std,
            "accuracies": {
                f"part {part}, seed {seed}": accuracies[name, part, seed]
                for part, seed in itertools.product(options.parts, options.seeds)
            },
        }
    save_result("recipe", result)


if __name__ == "__main__":
    main()
