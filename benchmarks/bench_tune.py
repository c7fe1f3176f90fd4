"""Searches: what halving and the estimator find against chance in the same time, and what a trial costs beside its training.

    python -m benchmarks.bench_tune --shards FOLDER [--fold 5] [--minutes 4] [--seeds 3]

1. TPE with ASHA against random search to the end of each trial, the same minutes, space and settings, several seeds: the best
   validation score over time, and how well the kept model does on the held-out fold, which no search saw.
2. The same trials, chosen by chance and run to their end, as a search of two at once and as two plain loops side by side, each
   a process that trains one after the other: seconds of a trial beyond its training, and epochs a second once trials run.
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

from benchmarks.common import held_out_scores, save, spread
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
PARTS_OF_TIME = (0.25, 0.5, 0.75, 1.0)


def best_by(folder: Path, seconds: float) -> float:
    """The best score of a search so far, at a time."""
    scores = [
        point.score for trial in SearchFolder(folder).read() for point in trial.points if point.at <= seconds
    ]
    return max(scores, default=0.0)


def compare(config: SearchConfig, minutes: float, seeds: int) -> dict[str, Any]:
    """Both kinds of search in the same time."""
    found: dict[str, dict[str, list[float]]] = {kind: {} for kind in KINDS}
    for seed in range(seeds):
        for kind, changes in KINDS.items():
            one = SearchConfig(
                **config.model_dump()
                | changes
                | {"seed": seed, "run": config.run / f"{kind}_{seed}", "time_budget": minutes}
            )
            search(one)
            values = {f"best_at_{part:.0%}": best_by(one.run, 60 * minutes * part) for part in PARTS_OF_TIME}
            values |= {
                "held_out_accuracy": held_out_scores(one.run / "best")["accuracy"],
                "trials": float(len(SearchFolder(one.run).read())),
            }
            for name, value in values.items():
                found[kind].setdefault(name, []).append(value)
    return {
        kind: {
            name: {"mean": statistics.mean(of), "deviation": statistics.pstdev(of), "each": of}
            for name, of in values.items()
        }
        for kind, values in found.items()
    }


def plain_loops(runs: list[Path], shards: Path, out: Path) -> None:
    """Trains the settings of some trials one after the other, as plain code would; writes the seconds of each epoch, and of all."""
    from pipeline.classifier.config import TrainClassifierConfig

    torch.set_num_threads(1)
    start, epochs = time.perf_counter(), []
    for run in runs:
        settings = RunFolder(run).read_json("config.json")["config"]
        with tempfile.TemporaryDirectory() as folder:
            last = time.perf_counter()
            for _ in train_epochs(
                TrainClassifierConfig(shards=shards, run=Path(folder), **settings),
                World(0, 1, torch.device("cpu")),
            ):
                epochs.append(time.perf_counter() - last)
                last = time.perf_counter()
    out.write_text(json.dumps({"epochs": epochs, "seconds": time.perf_counter() - start}))


def overhead(config: SearchConfig, trials: int) -> dict[str, float]:
    """A search of trials that all run to their end, against two plain loops of the same trainings."""
    config = SearchConfig(
        **config.model_dump()
        | KINDS["random"]
        | {"trials": trials, "run": config.run / "overhead", "max_concurrent": 2}
    )
    start = time.perf_counter()
    search(config)
    whole = time.perf_counter() - start
    folder = SearchFolder(config.run)
    steps = []
    for trial in folder.read():
        at = [point.at for point in trial.points]
        steps += [b - a for a, b in itertools.pairwise(at)]
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
    plain = [json.loads(file.read_text()) for file in files]
    epoch = statistics.mean(seconds for one in plain for seconds in one["epochs"])
    return {
        "overhead_seconds_a_trial": (2 * whole - sum(one["seconds"] for one in plain)) / trials,
        "epochs_per_second_to_plain": epoch / statistics.mean(steps),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--fold", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--max-epochs", type=int, default=18)
    parser.add_argument("--trials", type=int, default=8, help="of the second part")
    parser.add_argument("--rounds", type=int, default=3, help="of the second part")
    arguments = parser.parse_args()
    open_dataset(arguments.shards)
    with tempfile.TemporaryDirectory() as name, session():
        folder = Path(name)
        for file, values in (("base.yaml", BASE), ("space.yaml", SPACE)):
            (folder / file).write_text(yaml.safe_dump(values))
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
        result: dict[str, Any] = {name: spread([one[name] for one in rounds]) for name in rounds[0]}
        if arguments.seeds:
            result |= {"minutes": arguments.minutes, **compare(config, arguments.minutes, arguments.seeds)}
        save("tune", result)


if __name__ == "__main__":
    main()
