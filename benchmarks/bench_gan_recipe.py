"""Settings of the GAN compared at the same number of steps: fidelity and variety of the generated clips.

    melray extract --data CLIPS --out SHARDS
    python -m benchmarks.bench_gan_recipe --shards SHARDS --work FOLDER [--seeds 1 2 3 --epochs 15]

Each run takes one core and keeps its last epoch, so that nothing is selected on the validation clips that
score. All runs of a seed have the same split and the same evaluation classifier. Finished runs in FOLDER are
not repeated, and interrupted ones are resumed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import save_result

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "no class loss": {"class_weight": 0.0},
    "class weight 0.1": {"class_weight": 0.1},
    "class weight 1": {"class_weight": 1.0},
    "fixed augmentation": {"ada": {"adapt": False}},
    "no augmentation": {"ada": {"adapt": False, "p": 0.0}},
    "patch 2": {"gan": {"patch": 2}},
    "EMA 0.999": {"ema_decay": 0.999},
    "penalty every 2 steps": {"penalty_interval": 2},
    "no diversity loss": {"diversity_weight": 0.0},
}
METRICS = ("class_accuracy", "real_class_accuracy", "density", "coverage", "real_density", "real_coverage")


def run_variant(arguments: tuple[str, int, argparse.Namespace]) -> dict[str, Any]:
    """Train and evaluate one variant; return the metrics."""
    name, seed, options = arguments
    import torch

    from pipeline.gan.config import TrainGanConfig
    from pipeline.gan.evaluate import evaluate_gan
    from pipeline.gan.loop import train_loop
    from pipeline.training.run import finish_run, start_run
    from pipeline.training.run_folder import RunFolder
    from pipeline.training.world import World

    torch.set_num_threads(1)
    run = options.work / f"{name.replace(' ', '-')}-{seed}"
    config = TrainGanConfig(
        shards=options.shards,
        run=run,
        seed=seed,
        epochs=options.epochs,
        sample_every=options.epochs,
        select_best=False,
        **VARIANTS[name],
    )
    if not (run / "evaluation.json").is_file():
        if start_run("train-gan", config) is None:
            result = train_loop(config, World(0, 1, torch.device("cpu")), RunFolder(run).acquire())
            finish_run(config, result, 0.0)
        classifier = options.work / f"classifier-{seed}"
        if classifier.is_dir():
            shutil.copytree(classifier, run / "reference_classifiers", dirs_exist_ok=True)
        evaluate_gan(run, options.clips_per_class)
        if not classifier.is_dir():
            shutil.copytree(run / "reference_classifiers", classifier)
    return json.loads((run / "evaluation.json").read_text(encoding="utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--clips-per-class", type=int, default=30)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    runs = [(name, seed) for seed, name in itertools.product(options.seeds, options.variants)]
    with multiprocessing.get_context("spawn").Pool(options.processes, maxtasksperchild=1) as pool:
        tasks = [(name, seed, options) for name, seed in runs]
        metrics = dict(zip(runs, pool.map(run_variant, tasks, chunksize=1), strict=True))
    result: dict[str, Any] = {"epochs": options.epochs, "seeds": options.seeds}
    for name in options.variants:
        of_seeds = [metrics[name, seed] for seed in options.seeds]
        values = {key: [of_seed[key] for of_seed in of_seeds] for key in METRICS}
        values["frechet"] = [of_seed["frechet"]["generated"] for of_seed in of_seeds]
        values["real_frechet"] = [of_seed["frechet"]["real"] for of_seed in of_seeds]
        result[name] = {
            key: {"mean": float(np.mean(of_key)), "of_seeds": of_key} for key, of_key in values.items()
        }
    save_result("gan_recipe", result)


if __name__ == "__main__":
    main()
