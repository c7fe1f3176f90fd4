"""Gain of fine-tuning: networks trained on notes of instruments, then on ESC-10, against random weights.

    apt install libfluidsynth3 fluid-soundfont-gm; pip install pyfluidsynth
    python -m benchmarks.bench_transfer --esc10 ESC-10 --out FOLDER [--seeds 1 2 3]

The first training is on notes of 127 instruments of a General MIDI sound font. The second one leaves each
fold of ESC-10 out in turn, with all other clips or with eight of each class. Its last epoch is scored on that
fold, on which nothing is chosen. Runs take one core each; a rerun continues.
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from benchmarks.bench_recipe import SMALL_MEL, SMALL_NETWORK
from benchmarks.common import save_result, train_without_fold
from benchmarks.note_clips import SECONDS, write_notes

FOLDS = (1, 2, 3, 4, 5)
# Program 125 is a helicopter, which is a class of ESC-10.
PROGRAMS = tuple(program for program in range(128) if program != 125)
PITCHES = range(36, 85, 4)
VELOCITIES = (60, 110)
PRETRAINING_EPOCHS = 40
NETWORK = SMALL_NETWORK | {"modulation": False, "texture": False}
# Epochs of the second run, by the clips of each class that it has (None: all).
EPOCHS: Mapping[int | None, int] = MappingProxyType({None: 80, 8: 240})
# Settings of the second run that differ from the defaults; the first one starts from random weights.
ARMS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "random weights": {},
        "fine-tuned": {},
        "fine-tuned, stage factor 0.7": {"stage_lr_factor": 0.7},
        "fine-tuned, a third of the learning rate": {"learning_rate": 7e-4},
        "fine-tuned, two stages frozen": {"freeze": 2},
    }
)


class Run(NamedTuple):
    """One training run on ESC-10."""

    arm: str
    keep: int | None
    fold: int
    seed: int

    def scores_path(self, options: argparse.Namespace) -> Path:
        """Return the file with the probabilities of the clips of the fold."""
        arm = re.sub(r"\W+", "-", self.arm)
        return (
            Path(options.out) / "scores" / f"{arm}_{self.keep or 'all'}_fold{self.fold}_seed{self.seed}.npz"
        )


def extract_notes(options: argparse.Namespace) -> Path:
    """Write and extract the notes; pitches are groups, so that validation has others than training."""
    instruments = {f"program_{program:03d}": (program, PITCHES) for program in PROGRAMS}
    folder = write_notes(options.out / "notes", instruments, VELOCITIES)
    return _extract(
        folder, options.out / "shards" / "notes", group_pattern=r"^(\d+)_", features=_features(SECONDS)
    )


def _features(seconds: float) -> dict[str, Any]:
    return {"seconds": seconds, "mel": SMALL_MEL}


def _extract(data: Path, out: Path, **settings: Any) -> Path:
    """Extract a dataset, unless it exists."""
    from pipeline.distributed.batch_job import run_in_process
    from pipeline.extract import ExtractConfig, extract

    if not (out / "_manifest.json").is_file():
        extract(ExtractConfig(data=data, out=out, **settings), run_in_process)
    return out


def esc10_shards(keep: int | None, fold: int, options: argparse.Namespace) -> Path:
    """Return the dataset that a fold is scored with."""
    return Path(options.out) / "shards" / ("esc10" if keep is None else f"esc10_{keep}_fold{fold}")


def extract_esc10(keep: int | None, fold: int, options: argparse.Namespace) -> None:
    """Extract ESC-10: all clips, or those of a fold and `keep` of each class of the others."""
    paths: dict[str, list[Path]] = defaultdict(list)
    chosen: list[Path] = []
    for path in sorted(options.esc10.glob("*/*.ogg")):
        if keep is None or _fold(path) == fold:
            chosen.append(path)
        else:
            paths[path.parent.name].append(path)
    for of_class in paths.values():
        chosen += [of_class[i] for i in np.random.default_rng(fold).permutation(len(of_class))[:keep]]
    shards = esc10_shards(keep, fold, options)
    table = options.out / f"{shards.name}.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "fold"])
        writer.writerows([path, path.parent.name, _fold(path)] for path in chosen)
    _extract(table, shards, copies=1, features=_features(5.0))


def _fold(path: Path) -> int:
    """Return the fold of a file such as 1-100032-A.ogg."""
    return int(path.name.partition("-")[0])


def pretrain(arguments: tuple[int, argparse.Namespace]) -> float:
    """Train on the notes with a seed; return the accuracy on notes of other pitches."""
    import torch

    from pipeline.classifier.config import TrainClassifierConfig
    from pipeline.classifier.train import begin_run, train_in_process

    seed, options = arguments
    torch.set_num_threads(1)
    config = TrainClassifierConfig(
        shards=options.out / "shards" / "notes",
        run=_pretrained(seed, options),
        model=NETWORK,
        seed=seed,
        epochs=PRETRAINING_EPOCHS,
    )
    if begin_run(config) is None:
        train_in_process(config)
    return float(json.loads((config.run / "summary.json").read_text(encoding="utf-8"))["val_accuracy"])


def _pretrained(seed: int, options: argparse.Namespace) -> Path:
    return Path(options.out) / "runs" / f"notes_seed{seed}"


def train_and_score(arguments: tuple[Run, argparse.Namespace]) -> None:
    """Train on ESC-10, and save the probabilities of the clips of the fold that was left out."""
    run, options = arguments
    scores = run.scores_path(options)
    if scores.is_file():
        return
    source = {} if run.arm == "random weights" else {"init_from": _pretrained(run.seed, options)}
    held_out = train_without_fold(
        shards=esc10_shards(run.keep, run.fold, options),
        run=options.out / "runs" / scores.stem,
        model=NETWORK,
        fold=run.fold,
        seed=run.seed,
        epochs=EPOCHS[run.keep],
        **source,
        **ARMS[run.arm],
    )
    scores.parent.mkdir(parents=True, exist_ok=True)
    unfinished = scores.with_suffix(".part.npz")
    np.savez(unfinished, label=held_out.labels, probabilities=held_out.probabilities())
    unfinished.replace(scores)


def summarize(arm: str, keep: int | None, options: argparse.Namespace) -> dict[str, Any]:
    """Return accuracy and log loss over all folds, and the difference to random weights with its error.

    The standard error is over folds, whose accuracies are means over seeds.
    """
    accuracy_FS, loss_FS = _scores(arm, keep, options)
    base_FS, base_loss_FS = _scores("random weights", keep, options)
    means_S = accuracy_FS.mean(axis=0)
    return {
        "accuracy": float(means_S.mean()),
        "std_over_seeds": float(means_S.std(ddof=1)) if len(means_S) > 1 else None,
        "log_loss": float(loss_FS.mean()),
        "accuracy_gain": _mean_and_error((accuracy_FS - base_FS).mean(axis=1)),
        "log_loss_gain": _mean_and_error((loss_FS - base_loss_FS).mean(axis=1)),
    }


def _scores(arm: str, keep: int | None, options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Return accuracy and log loss `[shape=(folds, seeds)]`."""
    accuracy_FS, loss_FS = np.zeros((2, len(FOLDS), len(options.seeds)))
    for row, fold in enumerate(FOLDS):
        for column, seed in enumerate(options.seeds):
            file = np.load(Run(arm, keep, fold, seed).scores_path(options))
            probabilities, labels = file["probabilities"], file["label"]
            accuracy_FS[row, column] = (probabilities.argmax(axis=1) == labels).mean()
            right = probabilities[np.arange(len(labels)), labels]
            loss_FS[row, column] = -np.log(np.maximum(right, 1e-12)).mean()
    return accuracy_FS, loss_FS


def _mean_and_error(values: Sequence[float]) -> list[float]:
    return [float(np.mean(values)), float(np.std(values, ddof=1) / len(values) ** 0.5)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--esc10", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--keep", type=int, nargs="+", default=[0, 8], help="clips of each class; 0: all")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    extract_notes(options)
    amounts = [keep or None for keep in options.keep]
    for keep in amounts:
        for fold in FOLDS if keep else FOLDS[:1]:
            extract_esc10(keep, fold, options)
    result: dict[str, Any] = {"seeds": options.seeds}
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        result["notes_val_accuracy"] = pool.map(pretrain, [(seed, options) for seed in options.seeds])
        print(f"notes of other pitches: {result['notes_val_accuracy']}", flush=True)
        runs = [
            Run(arm, keep, fold, seed)
            for keep in amounts
            for arm in options.arms
            for fold in FOLDS
            for seed in options.seeds
        ]
        for _ in pool.imap_unordered(train_and_score, [(run, options) for run in runs]):
            pass
    for keep in amounts:
        name = "all clips" if keep is None else f"{keep} clips of each class"
        result[name] = {arm: summarize(arm, keep, options) for arm in options.arms}
        print(f"{name}: {json.dumps(result[name], indent=1)}", flush=True)
    save_result("transfer", result)


if __name__ == "__main__":
    main()
