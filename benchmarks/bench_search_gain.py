"""Gain of a hyperparameter search: its best settings against the base settings on the held-out fold.

    python -m benchmarks.bench_search_gain --search RUN [--seeds 3]

RUN is a completed `melray tune --fold N` of a classifier. Both settings are trained on all other folds up to
the last epoch, so nothing is selected on any clip. If the base settings are the best trial, the second best
is compared.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import held_out_scores, save_result
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.train import begin_run, train_in_process
from pipeline.training.run_folder import RunFolder
from tune.trials import SearchFolder, Trial, best_trial


def held_out_metrics(settings: dict[str, Any], shards: Path, seed: int) -> tuple[float, float]:
    """Train on all other folds; return accuracy and macro-F1 on the held-out fold."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        final = {"seed": seed, "val_fraction": 0.0, "val_split": None, "keep": "last"}
        config = TrainClassifierConfig(**{**settings, "shards": shards, "run": Path(folder) / "run", **final})
        begin_run(config)
        train_in_process(config)
        metrics = held_out_scores(config.run)
        return metrics["accuracy"], metrics["macro_f1"]


def read_run_config(folder: SearchFolder, trial: Trial) -> dict[str, Any]:
    """Return the configuration of the run of a trial, or of its first inner fold."""
    run = folder.trial(trial.number)
    return RunFolder(run if (run / "config.json").is_file() else run / "fold_1").read_json("config.json")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--search", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    folder = SearchFolder(arguments.search)
    trials = folder.read()
    run = RunFolder(arguments.search)
    summary, search = run.read_json("summary.json"), run.read_json("search.json")
    base, best = trials[0], best_trial(trials, "max")
    assert best is not None
    tuned = best if best is not base else best_trial(trials[1:], "max")
    assert tuned is not None
    shards = Path(read_run_config(folder, base)["shards"])
    arms = {
        "base": read_run_config(folder, base)["config"],
        "tuned": read_run_config(folder, tuned)["config"],
    }
    jobs = [(name, seed) for seed in range(arguments.seeds) for name in arms]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        scores = list(
            pool.map(
                held_out_metrics,
                [arms[name] for name, _ in jobs],
                [shards] * len(jobs),
                [seed for _, seed in jobs],
            )
        )
    result: dict[str, Any] = {
        "search": {key: summary[key] for key in ("metric", "score", "trial", "trials", "epochs", "seconds")},
        "settings": search["config"],
        "base_score": max(point.score for point in base.points),
        "tuned": {
            "trial": tuned.number,
            "score": max(point.score for point in tuned.points),
            "params": tuned.params,
        },
    }
    for name in arms:
        arm_scores = [score for (arm, _), score in zip(jobs, scores, strict=True) if arm == name]
        for i, metric in enumerate(("accuracy", "macro_f1")):
            values = [score[i] for score in arm_scores]
            result[f"{name}_{metric}"] = {
                "mean": statistics.mean(values),
                "std": statistics.stdev(values),
                "each": values,
            }
    save_result("search_gain", result)
    print(json.dumps(result["base_accuracy"]), json.dumps(result["tuned_accuracy"]))


if __name__ == "__main__":
    main()
