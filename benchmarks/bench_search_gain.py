"""What a search was worth: its best settings against the base settings, trained on all clips that it saw, scored on the fold it did not.

    python -m benchmarks.bench_search_gain --search RUN [--seeds 3]

RUN is a finished `melray tune --fold N` of a classifier. Each training runs to its last epoch, so nothing is chosen on any clip.
Where the base settings are themselves the best trial, the best other one stands for the search.
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

from benchmarks.common import held_out_scores, save
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.train import begin_run, train_in_process
from pipeline.training.run_folder import RunFolder
from tune.trials import SearchFolder, Trial, best_trial


def held_out(settings: dict[str, Any], shards: Path, seed: int) -> tuple[float, float]:
    """Accuracy and macro-F1 on the held-out fold of a training on all other clips."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        final = {"seed": seed, "val_fraction": 0.0, "val_split": None, "keep": "last"}
        config = TrainClassifierConfig(**{**settings, "shards": shards, "run": Path(folder) / "run", **final})
        begin_run(config)
        train_in_process(config)
        metrics = held_out_scores(config.run)
        return metrics["accuracy"], metrics["macro_f1"]


def opened(folder: SearchFolder, trial: Trial) -> dict[str, Any]:
    """What the run of a trial, or of its first part, was opened with."""
    run = folder.trial(trial.number)
    return RunFolder(run if (run / "config.json").is_file() else run / "part_1").read_json("config.json")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--search", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    folder = SearchFolder(arguments.search)
    trials = folder.read()
    run = RunFolder(arguments.search)
    summary, about = run.read_json("summary.json"), run.read_json("search.json")
    base, best = trials[0], best_trial(trials, "max")
    assert best is not None
    other = best if best is not base else best_trial(trials[1:], "max")
    assert other is not None
    shards = Path(opened(folder, base)["shards"])
    arms = {"base": opened(folder, base)["config"], "found": opened(folder, other)["config"]}
    jobs = [(name, seed) for seed in range(arguments.seeds) for name in arms]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        scores = list(
            pool.map(
                held_out, [arms[name] for name, _ in jobs], [shards] * len(jobs), [seed for _, seed in jobs]
            )
        )
    result: dict[str, Any] = {
        "search": {key: summary[key] for key in ("metric", "score", "trial", "trials", "epochs", "seconds")},
        "settings": about["search"],
        "base_score": max(point.score for point in base.points),
        "found": {
            "trial": other.number,
            "score": max(point.score for point in other.points),
            "values": other.values,
        },
    }
    for name in arms:
        own = [score for (arm, _), score in zip(jobs, scores, strict=True) if arm == name]
        for i, figure in enumerate(("accuracy", "macro_f1")):
            values = [score[i] for score in own]
            result[f"{name}_{figure}"] = {
                "mean": statistics.mean(values),
                "deviation": statistics.stdev(values),
                "each": values,
            }
    save("search_gain", result)
    print(json.dumps(result["base_accuracy"]), json.dumps(result["found_accuracy"]))


if __name__ == "__main__":
    main()
