"""Accuracy of settings of the classifier on ESC-10, to choose them without the fold that scores them.

    python -m benchmarks.bench_recipe --esc10 ESC-10 --out FOLDER [--variants NAME ... --seeds 1 2 3]

Each run trains on three folds and scores the other two: all ten pairs of folds, or five. The settings of a
held-out fold are chosen by the scores of other folds in runs that left it out as well, so that none of its
clips has a part in the choice. The last epoch is scored: nothing is selected in a run. Runs take one core
each; a rerun continues, and adds variants, pairs and seeds.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import multiprocessing
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from benchmarks.common import save_result, train_without_fold
from models.calibration import TEMPERATURES, best_temperature
from pipeline.audio.augment import AugmentConfig

FOLDS = (1, 2, 3, 4, 5)
# Each fold is in two of these pairs.
RING = ((1, 2), (2, 3), (3, 4), (4, 5), (1, 5))
# A quarter of the values of a spectrogram, and a quarter of the network's multiplications for each of them.
SMALL_MEL = {"n_mels": 64, "hop_length": 1024}
SMALL_NETWORK = {"channels": (16, 32, 64, 128), "embedding_dim": 128}
TTA_SHIFTS = (1, 8)


DEFAULT_AUGMENTATIONS = AugmentConfig().augmentations


class Variant(NamedTuple):
    """Settings that differ from the defaults."""

    train: Mapping[str, Any] = MappingProxyType({})
    mel: Mapping[str, Any] = MappingProxyType({})
    copies: int = 1
    combined: bool = False
    """Whether each copy has several augmentations."""
    augmentations: tuple[str, ...] = DEFAULT_AUGMENTATIONS


def _mixup(rate: float, alpha: float, domain: str = "db") -> dict[str, Any]:
    return {"mixup": {"rate": rate, "alpha": alpha, "domain": domain}}


_DEFAULT_MEL = {"n_mels": 128, "hop_length": 512}
_EQUALIZER = {"spec_augment": {"band_gain_db": 6.0}}

_ROOMS_AND_NOISE = {"spec_augment": {"reverb": 0.5, "noise": 0.5}}

_CHANGING = tuple(name for name in DEFAULT_AUGMENTATIONS if name not in ("unchanged", "time_shift"))

VARIANTS: dict[str, Variant] = {
    "default": Variant(),
    "240 epochs": Variant({"epochs": 240}),
    "no augmented copy": Variant(copies=0),
    "4 augmented copies": Variant(copies=4),
    "4 augmented copies, 32 epochs": Variant({"epochs": 32}, copies=4),
    "MixUp of every sample, alpha 1": Variant(_mixup(1.0, 1.0)),
    "MixUp of every sample, alpha 1, 240 epochs": Variant(_mixup(1.0, 1.0) | {"epochs": 240}),
    "no MixUp": Variant(_mixup(0.0, 0.3)),
    "MixUp of powers, rate 0.8, alpha 1": Variant(_mixup(0.8, 1.0, "power")),
    "equalizer of 6 dB": Variant(_EQUALIZER),
    "equalizer of 12 dB": Variant({"spec_augment": {"band_gain_db": 12.0}}),
    "rooms and noise": Variant(_ROOMS_AND_NOISE),
    "rooms": Variant({"spec_augment": {"reverb": 0.5}}),
    "noise": Variant({"spec_augment": {"noise": 0.5}}),
    "rooms and noise, MixUp of every sample, alpha 1, 160 epochs": Variant(
        _ROOMS_AND_NOISE | _mixup(1.0, 1.0) | {"epochs": 160}
    ),
    "gain of 15 dB": Variant({"spec_augment": {"gain_db": 15.0}}),
    # With --size small, these have the default network's features, or the same number in another shape.
    "128 bands, hop of 23 ms": Variant(mel=_DEFAULT_MEL),
    "128 bands, hop of 23 ms, MixUp of powers, equalizer": Variant(
        _mixup(0.8, 1.0, "power") | _EQUALIZER, mel=_DEFAULT_MEL
    ),
    "128 bands, hop of 23 ms, mobilenet": Variant({"model": {"arch": "mobilenet"}}, mel=_DEFAULT_MEL),
    "128 bands, hop of 23 ms, weights averaged": Variant({"swa_fraction": 0.25}, mel=_DEFAULT_MEL),
    "128 bands, hop of 23 ms, PCEN": Variant({"model": {"input": "pcen"}}, mel=_DEFAULT_MEL),
    "64 bands, windows of 46 ms, hop of 12 ms": Variant(mel={"n_fft": 1024, "hop_length": 256}),
    "256 bands, windows of 186 ms, hop of 46 ms": Variant(mel={"n_fft": 4096, "n_mels": 256}),
    "44.1 kHz": Variant(mel={"sample_rate": 44_100, "n_fft": 4096, "hop_length": 2048}),
    "padded clips, no stretch, no shift of bands": Variant(
        {"model": {"padding": "silence"}, "spec_augment": {"time_stretch": 0.0, "freq_shift": 0.0}}
    ),
    "modulation spectrum": Variant({"model": {"modulation": True}}),
    "no modulation spectrum": Variant({"model": {"modulation": False}}),
    "texture statistics": Variant({"model": {"texture": True}}),
    "no texture statistics": Variant({"model": {"texture": False}}),
    "PCEN": Variant({"model": {"input": "pcen"}}),
    "dB and PCEN": Variant({"model": {"input": "db+pcen"}}),
    "7 augmented copies, 20 epochs": Variant({"epochs": 20}, copies=7),
    "dB and PCEN, 7 augmented copies, 20 epochs": Variant(
        {"model": {"input": "db+pcen"}, "epochs": 20}, copies=7
    ),
    "160 epochs": Variant({"epochs": 160}),
    "15 augmented copies, 20 epochs": Variant({"epochs": 20}, copies=15),
    "15 combined copies, 20 epochs": Variant({"epochs": 20}, copies=15, combined=True),
    "15 combined copies, 20 epochs, MixUp of every sample": Variant(
        _mixup(1.0, 1.0) | {"epochs": 20}, copies=15, combined=True
    ),
    "15 combined copies, 40 epochs, MixUp of every sample": Variant(
        _mixup(1.0, 1.0) | {"epochs": 40}, copies=15, combined=True
    ),
    "without unchanged copies and time shift": Variant(augmentations=_CHANGING),
    "resnet-se": Variant({"model": {"arch": "resnet-se"}}),
    "mobilenet": Variant({"model": {"arch": "mobilenet"}}),
    "dropout 0.5": Variant({"model": {"dropout": 0.5}}),
    "batches of 32": Variant({"batch_size": 32}),
}


class Run(NamedTuple):
    """One training run of one variant, without two folds."""

    variant: str
    pair: tuple[int, int]
    seed: int

    def scores_path(self, options: argparse.Namespace) -> Path:
        """Return the file with the probabilities of the clips that were left out."""
        name = f"{slug(self.variant)}_folds_{self.pair[0]}{self.pair[1]}_seed{self.seed}.npz"
        return Path(options.out) / "scores" / options.size / name

    def shards(self, options: argparse.Namespace) -> Path:
        """Return the folder of its spectrograms."""
        variant = VARIANTS[self.variant]
        name = "combined" if variant.combined else "copies"
        left_out = [f"no-{name}" for name in DEFAULT_AUGMENTATIONS if name not in variant.augmentations]
        parts = [
            f"{name}{variant.copies}",
            *left_out,
            *(f"{key}{value}" for key, value in sorted(variant.mel.items())),
        ]
        folder = f"{'_'.join(parts)}_folds_{self.pair[0]}{self.pair[1]}"
        return Path(options.out) / "shards" / options.size / folder


def slug(text: str) -> str:
    """Return a text as a part of a file name."""
    return "".join(char if char.isalnum() else "-" for char in text)


def extract_shards(run: Run, options: argparse.Namespace) -> None:
    """Extract all clips, with those of the pair as the held-out fold 1."""
    from pipeline.distributed.batch_job import run_in_process
    from pipeline.extract import ExtractConfig, extract

    table = Path(options.out) / f"clips_{run.pair[0]}{run.pair[1]}.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "fold"])
        for path in sorted(options.esc10.glob("*/*.ogg")):
            writer.writerow([path, path.parent.name, 1 if _fold(path.name) in run.pair else 2])
    variant = VARIANTS[run.variant]
    mel = (SMALL_MEL if options.size == "small" else {}) | dict(variant.mel)
    config = ExtractConfig(
        data=table,
        out=run.shards(options),
        copies=variant.copies,
        augmentations=variant.augmentations,
        combine_augmentations=variant.combined,
        features={"mel": mel} if mel else {},
    )
    if not (config.out / "_manifest.json").is_file():
        extract(config, run_in_process)


def _fold(name: str) -> int:
    """Return the fold of a file such as 1-100032-A.ogg."""
    return int(name.partition("-")[0])


def train_and_score(arguments: tuple[Run, argparse.Namespace]) -> None:
    """Train a run, and save the probabilities of the clips that it left out."""
    run, options = arguments
    scores = run.scores_path(options)
    if scores.is_file():
        return
    settings = VARIANTS[run.variant].train
    network = (SMALL_NETWORK if options.size == "small" else {}) | settings.get("model", {})
    held_out = train_without_fold(
        shards=run.shards(options),
        run=Path(options.out) / "runs" / options.size / scores.stem,
        fold=1,
        seed=run.seed,
        **dict(settings) | {"model": network},
    )
    scores.parent.mkdir(parents=True, exist_ok=True)
    unfinished = scores.with_suffix(".part.npz")
    np.savez(
        unfinished,
        fold=[_fold(name.rpartition("/")[2]) for name in held_out.clip_ids],
        label=held_out.labels,
        **{f"shifts{shifts}": held_out.probabilities(shifts) for shifts in TTA_SHIFTS},
    )
    unfinished.replace(scores)


def accuracies(runs: Sequence[Run], options: argparse.Namespace, shifts: int) -> dict[tuple[int, int], float]:
    """Return the accuracy on each fold by the mean probabilities of runs that differ in their seed alone.

    Keys are the fold that was scored and the other one that was left out.
    """
    files = [np.load(run.scores_path(options)) for run in runs]
    predicted = np.mean([file[f"shifts{shifts}"] for file in files], axis=0).argmax(axis=1)
    is_right, folds = predicted == files[0]["label"], files[0]["fold"]
    first, second = runs[0].pair
    return {
        (first, second): float(is_right[folds == first].mean()),
        (second, first): float(is_right[folds == second].mean()),
    }


def log_loss(run: Run, options: argparse.Namespace, shifts: int, temperature: float = 1.0) -> float:
    """Return the mean log loss of a run on the clips that it left out; it varies less than accuracy."""
    return _likelihood(run, options, shifts, [temperature])[0] / len(
        np.load(run.scores_path(options))["label"]
    )


def calibrated_log_loss(run: Run, options: argparse.Namespace, shifts: int) -> float:
    """Return the log loss with the temperature that is best for the runs of the other pairs of folds."""
    others = [run._replace(pair=pair) for pair in options.pairs if pair != run.pair]
    likelihood_K = sum(np.array(_likelihood(other, options, shifts, TEMPERATURES)) for other in others)
    return log_loss(run, options, shifts, best_temperature(np.asarray(likelihood_K)))


def _likelihood(
    run: Run, options: argparse.Namespace, shifts: int, temperatures: Iterable[float]
) -> list[float]:
    """Return the negative log likelihood of the clips that a run left out at each temperature."""
    file = np.load(run.scores_path(options))
    logits, labels = np.log(np.maximum(file[f"shifts{shifts}"], 1e-12)), file["label"]
    scaled = (logits / temperature for temperature in temperatures)
    return [
        float((np.logaddexp.reduce(values, axis=1) - values[np.arange(len(labels)), labels]).sum())
        for values in scaled
    ]


def summarize(variant: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return the accuracies of a variant: of each seed, of all together, and those that choose for a fold."""
    summary: dict[str, Any] = {}
    for shifts in TTA_SHIFTS:
        per_seed: dict[int, dict[tuple[int, int], float]] = {seed: {} for seed in options.seeds}
        together: dict[tuple[int, int], float] = {}
        losses, calibrated = [], []
        for pair in options.pairs:
            runs = [Run(variant, pair, seed) for seed in options.seeds]
            together |= accuracies(runs, options, shifts)
            for run in runs:
                per_seed[run.seed] |= accuracies([run], options, shifts)
                losses.append(log_loss(run, options, shifts))
                calibrated.append(calibrated_log_loss(run, options, shifts))
        means = [float(np.mean(list(values.values()))) for values in per_seed.values()]
        summary[f"{shifts} shifts"] = {
            "mean": float(np.mean(means)),
            "log_loss": float(np.mean(losses)),
            "calibrated_log_loss": float(np.mean(calibrated)),
            "std_over_seeds": float(np.std(means, ddof=1)) if len(means) > 1 else None,
            "ensemble_of_seeds": float(np.mean(list(together.values()))),
            "selection_score_of_fold": {
                fold: float(
                    np.mean(
                        [
                            value
                            for values in per_seed.values()
                            for key, value in values.items()
                            if key[1] == fold
                        ]
                    )
                )
                for fold in FOLDS
                if any(fold in pair for pair in options.pairs)
            },
        }
    return summary


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--esc10", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--size", choices=("small", "full"), default="small", help="full: default features and network"
    )
    parser.add_argument("--result", default="recipe", help="name of the result file")
    parser.add_argument("--all-pairs", action="store_true", help="all ten pairs of folds, not five")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    options = parser.parse_args()
    options.pairs = list(itertools.combinations(FOLDS, 2)) if options.all_pairs else list(RING)
    options.out.mkdir(parents=True, exist_ok=True)
    runs = [
        Run(name, pair, seed)
        for name, seed, pair in itertools.product(options.variants, options.seeds, options.pairs)
    ]
    for run in {run.shards(options): run for run in runs}.values():
        extract_shards(run, options)
    context = multiprocessing.get_context("spawn")
    with context.Pool(os.cpu_count()) as pool:
        for _ in pool.imap_unordered(train_and_score, [(run, options) for run in runs]):
            pass
    result: dict[str, Any] = {"size": options.size, "pairs": options.pairs, "seeds": options.seeds}
    for name in options.variants:
        result[name] = summarize(name, options)
        print(f"{name}: {json.dumps(result[name])}")
    save_result(options.result, result)


if __name__ == "__main__":
    main()
