"""Hyperparameter search: TPE with ASHA against random search in equal time, and overhead per trial.

    python -m benchmarks.bench_tune --shards FOLDER [--fold 5] [--minutes 4] [--seeds 3]

1. TPE with ASHA against random search without early stopping, with equal time, search space and settings, for
   several seeds: the best validation score over time, and the accuracy of the best model on the held-out
   fold.
2. Random trials without early stopping, as a search of two concurrent trials and as two concurrent plain
loops:
   seconds per trial in addition to its training, and epochs per second once trials run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.common import held_out_scores, save_result, summarize, timed
from cluster.connection.session import session
from pipeline.classifier.loop import train_epochs
from pipeline.data.dataset import open_dataset
from pipeline.training.run_folder import RunFolder
from pipeline.training.world import World
from tune.config import SearchConfig
from tune.search import search
from tune.trials import SearchFolder

BASE = {"model": {"channels": [16, 32, 64, 128], "convs_per_block": 1}}
SPACE = {
    "learning_rate": {"low": 0.0002, "high": 0.02, "log": True},
    "mixup.rate": {"low": 0.0, "high": 1.0},
    "augmentation_strength": {"low": 0.0, "high": 1.0},
    "weight_decay": {"low": 0.003, "high": 0.3, "log": True},
    "label_smoothing": {"low": 0.0, "high": 0.2},
    "model.dropout": {"low": 0.0, "high": 0.6},
}
KINDS: dict[str, dict[str, Any]] = {
    "tpe_asha": {"searcher": "tpe", "scheduler": "asha"},
    "random": {"searcher": "random", "scheduler": "none"},
}
TIME_FRACTIONS = (0.25, 0.5, 0.75, 1.0)


def best_by(folder: Path, seconds: float) -> float:
    """Return the best score of a search after the given time in seconds."""
    scores = [
        point.score
        for trial in SearchFolder(folder).read()
        for point in trial.points
        if point.elapsed_s <= seconds
    ]
    return max(scores, default=0.0)


def compare(config: SearchConfig, minutes: float, seeds: int) -> dict[str, Any]:
    """Run both kinds of search for the same time; return mean and standard deviation over seeds."""
    metrics: dict[str, dict[str, list[float]]] = {kind: {} for kind in KINDS}
    for seed in range(seeds):
        for kind, overrides in KINDS.items():
            search_config = SearchConfig(
                **config.model_dump()
                | overrides
                | {"seed": seed, "run": config.run / f"{kind}_{seed}", "time_budget": minutes}
            )
            search(search_config)
            values = {
                f"best_at_{fraction:.0%}": best_by(search_config.run, 60 * minutes * fraction)
                for fraction in TIME_FRACTIONS
            }
            values |= {
                "held_out_accuracy": held_out_scores(search_config.run / "best")["accuracy"],
                "trials": float(len(SearchFolder(search_config.run).read())),
            }
            for name, value in values.items():
                metrics[kind].setdefault(name, []).append(value)
    return {
        kind: {
            name: {"mean": statistics.mean(each), "std": statistics.pstdev(each), "each": each}
            for name, each in values.items()
        }
        for kind, values in metrics.items()
    }


def plain_loops(runs: list[Path], shards: Path, out: Path) -> None:
    """Train the settings of trials one after another in a plain loop; write the seconds of each epoch."""
    from pipeline.classifier.config import TrainClassifierConfig

    torch.set_num_threads(1)
    start_time, epochs = time.perf_counter(), []
    for run in runs:
        settings = RunFolder(run).read_json("config.json")["config"]
        with tempfile.TemporaryDirectory() as folder:
            epoch_start = time.perf_counter()
            for _ in train_epochs(
                TrainClassifierConfig(shards=shards, run=Path(folder), **settings),
                World(0, 1, torch.device("cpu")),
            ):
                epochs.append(time.perf_counter() - epoch_start)
                epoch_start = time.perf_counter()
    out.write_text(
        json.dumps({"epochs": epochs, "seconds": time.perf_counter() - start_time}), encoding="utf-8"
    )


def overhead(config: SearchConfig, trials: int) -> dict[str, float]:
    """Compare a search without early stopping with two plain loops over the same trials."""
    config = SearchConfig(
        **config.model_dump()
        | KINDS["random"]
        | {"trials": trials, "run": config.run / "overhead", "max_concurrent": 2}
    )
    search_seconds = timed(lambda: search(config))
    folder = SearchFolder(config.run)
    epoch_seconds = []
    for trial in folder.read():
        times = [point.elapsed_s for point in trial.points]
        epoch_seconds += [end - start for start, end in itertools.pairwise(times)]
    files = [config.run / f"plain_{i}.json" for i in range(2)]
    halves = [[folder.trial(number) for number in range(i, trials, 2)] for i in range(2)]
    spawn = multiprocessing.get_context("spawn")
    processes = [
        spawn.Process(target=plain_loops, args=(half, config.shards, file))
        for half, file in zip(halves, files, strict=True)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    plain = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    plain_epoch_seconds = statistics.mean(seconds for loop in plain for seconds in loop["epochs"])
    return {
        "overhead_seconds_per_trial": (2 * search_seconds - sum(loop["seconds"] for loop in plain)) / trials,
        "epochs_per_second_to_plain": plain_epoch_seconds / statistics.mean(epoch_seconds),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--fold", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--max-epochs", type=int, default=18)
    parser.add_argument("--trials", type=int, default=8, help="for the overhead")
    parser.add_argument("--rounds", type=int, default=3, help="for the overhead")
    arguments = parser.parse_args()
    open_dataset(arguments.shards)
    with tempfile.TemporaryDirectory() as name, session():
        folder = Path(name)
        for file, values in (("base.yaml", BASE), ("space.yaml", SPACE)):
            (folder / file).write_text(yaml.safe_dump(values), encoding="utf-8")
        config = SearchConfig(
            shards=arguments.shards,
            run=folder,
            base=folder / "base.yaml",
            space=folder / "space.yaml",
            fold=arguments.fold,
            trials=1000,
            max_epochs=arguments.max_epochs,
            include_base=False,
            cpus_per_worker=1,
        )
        short = SearchConfig(**config.model_dump() | {"max_epochs": 3})
        rounds = [
            overhead(SearchConfig(**short.model_dump() | {"run": folder / f"round_{i}"}), arguments.trials)
            for i in range(arguments.rounds)
        ]
        result: dict[str, Any] = {
            name: summarize([metrics[name] for metrics in rounds]) for name in rounds[0]
        }
        if arguments.seeds:
            result |= {"minutes": arguments.minutes, **compare(config, arguments.minutes, arguments.seeds)}
        save_result("tune", result)


if __name__ == "__main__":
    main()
