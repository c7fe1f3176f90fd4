"""Settings of the GAN compared at the same number of steps: fidelity and variety of the generated clips.

    melray extract --data CLIPS --out SHARDS
    python -m benchmarks.bench_gan_recipe --shards SHARDS --work FOLDER [--seeds 1 2 3 --epochs 15]
    python -m benchmarks.bench_gan_recipe --shards SHARDS --work FOLDER --folds 1 2 3 4 5 --variants default

Each run takes one core and keeps its last epoch, so that nothing is selected on the clips that score: those
of the held-out fold, or without --folds the validation clips. All runs of a fold and a seed have the same
split and the same evaluation classifier, so that variants are compared with the default pair by pair.
Finished runs in FOLDER are not repeated, and interrupted ones are resumed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.common import save_result

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "no class loss": {"class_weight": 0.0},
    "class weight 0.1": {"class_weight": 0.1},
    "class weight 1": {"class_weight": 1.0},
    "class weight decayed": {"class_final_factor": 0.0},
    "fixed augmentation": {"ada": {"adapt": False}},
    "no augmentation": {"ada": {"adapt": False, "p": 0.0}},
    "patch 2": {"gan": {"patch": 2}},
    "EMA 0.999": {"ema_decay": 0.999},
    "penalty every 2 steps": {"penalty_interval": 2},
    "penalty every step": {"penalty_interval": 1},
    "no diversity loss": {"diversity_weight": 0.0},
    "diversity weight 4": {"diversity_weight": 4.0},
}
METRICS = ("class_accuracy", "real_class_accuracy", "density", "coverage", "real_density", "real_coverage")


class Run(NamedTuple):
    """A run of the comparison."""

    variant: str
    fold: int | None
    """Held-out fold; None holds nothing out."""
    seed: int

    @property
    def split_name(self) -> str:
        """Name of what all variants of this fold and seed have in common."""
        return f"{'' if self.fold is None else f'fold-{self.fold}-'}{self.seed}"


def run_variant(arguments: tuple[Run, argparse.Namespace]) -> dict[str, Any]:
    """Train and evaluate one variant; return the metrics."""
    compared, options = arguments
    import torch

    from pipeline.gan.config import TrainGanConfig
    from pipeline.gan.evaluate import evaluate_gan
    from pipeline.gan.loop import train_loop
    from pipeline.training.run import finish_run, start_run
    from pipeline.training.run_folder import RunFolder
    from pipeline.training.world import World

    torch.set_num_threads(1)
    run = options.work / f"{compared.variant.replace(' ', '-')}-{compared.split_name}"
    config = TrainGanConfig(
        shards=options.shards,
        run=run,
        fold=compared.fold,
        seed=compared.seed,
        epochs=options.epochs,
        sample_every=options.epochs,
        select_best=False,
        **VARIANTS[compared.variant],
    )
    if not (run / "evaluation.json").is_file():
        if start_run("train-gan", config) is None:
            result = train_loop(config, World(0, 1, torch.device("cpu")), RunFolder(run).acquire())
            finish_run(config, result, 0.0)
        classifier = options.work / f"classifier-{compared.split_name}"
        if classifier.is_dir():
            shutil.copytree(classifier, run / "reference_classifiers", dirs_exist_ok=True)
        evaluate_gan(run, options.clips_per_class)
        if not classifier.is_dir():
            shutil.copytree(run / "reference_classifiers", classifier)
    return json.loads((run / "evaluation.json").read_text(encoding="utf-8"))


def summary(metrics: list[dict[str, Any]], default: dict[str, Any] | None) -> dict[str, Any]:
    """Return the mean of each metric over the runs of a variant, its values, and its gain over the default.

    The gain is the mean difference of runs with the same fold and seed, with its standard error.
    """
    values = {key: [of_run[key] for of_run in metrics] for key in METRICS}
    values["frechet"] = [of_run["frechet"]["generated"] for of_run in metrics]
    values["real_frechet"] = [of_run["frechet"]["real"] for of_run in metrics]
    result: dict[str, Any] = {
        key: {"mean": float(np.mean(of_key)), "of_runs": of_key} for key, of_key in values.items()
    }
    if default is not None:
        for key, of_key in values.items():
            gain = np.subtract(of_key, default[key]["of_runs"])
            error = float(gain.std(ddof=1) / np.sqrt(len(gain))) if len(gain) > 1 else None
            result[key] |= {"gain": float(gain.mean()), "standard_error": error}
    return result


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--folds", type=int, nargs="+", default=[None])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--clips-per-class", type=int, default=30)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--result", default="gan_recipe", help="name of the file with the result")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    runs = [
        Run(variant, fold, seed)
        for seed, fold, variant in itertools.product(options.seeds, options.folds, options.variants)
    ]
    with multiprocessing.get_context("spawn").Pool(options.processes, maxtasksperchild=1) as pool:
        tasks = [(run, options) for run in runs]
        metrics = dict(zip(runs, pool.map(run_variant, tasks, chunksize=1), strict=True))
    result: dict[str, Any] = {"epochs": options.epochs, "seeds": options.seeds, "folds": options.folds}
    for name in sorted(options.variants, key=lambda name: name != "default"):
        result[name] = summary([metrics[run] for run in runs if run.variant == name], result.get("default"))
    save_result(options.result, result)


if __name__ == "__main__":
    main()
