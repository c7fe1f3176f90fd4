"""Gain of generated clips as additional training data: five arms with equal held-out clips, steps and seeds.

    python -m benchmarks.bench_gain --data AUDIO --out FOLDER --folds 1 2 3 4 5 --gan-epochs 60
    python -m benchmarks.bench_gain --data AUDIO --out FOLDER-8 --folds 1 2 3 4 5 --gan-epochs 60 --keep 8

For each fold, a GAN is trained on the training clips of that fold and generates datasets of clips. Then
classifiers are trained for the same number of steps in each arm:

    none        original clips
    waveform    original clips and augmented copies
    generated   original and generated clips that the reference classifier of the GAN classifies correctly
    unfiltered  original and generated clips
    both        original clips, augmented copies, and generated clips that are classified correctly

and evaluated on the held-out fold, which is not used for any selection. SpecAugment and MixUp are active in
all arms, as by default. With --gans, GANs that bench_gan_recipe has trained on the same folds are used
instead. With --keep N, only N clips of each class are trained on, by the GAN too: a class with few clips is
where generated ones should help. A rerun resumes.

The gain of an arm is the mean difference to the arm of the same fold and seed without what it adds. Its p
value is that of a sign-flip test of the folds' mean differences: seeds of a fold share their clips and their
GAN. Of five folds it is at least 2 / 32.
"""

from __future__ import annotations

import argparse
import itertools
import re
import shutil
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import save_result
from cluster.connection.session import session
from models.classifier import ClassifierConfig
from pipeline.classifier.command_configs import EvaluateConfig
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.evaluate import evaluate
from pipeline.classifier.train import begin_run, train_concurrently
from pipeline.data.dataset import open_dataset
from pipeline.data.split import split_rows
from pipeline.distributed.resource_config import ResourceConfig
from pipeline.extract import ExtractConfig, extract
from pipeline.gan.config import TrainGanConfig
from pipeline.gan.generate import GenerateConfig, generate_on_cluster
from pipeline.gan.train import train_gan
from pipeline.training.run_folder import RunFolder

ARMS = ("none", "waveform", "generated", "unfiltered", "both")
# Arms with generated clips, with the minimum confidence of these.
GENERATED = {"generated": 0.5, "unfiltered": 0.0, "both": 0.5}
# The arm that has all else than what an arm adds.
BASES = {"waveform": "none", "generated": "none", "unfiltered": "none", "both": "waveform"}
MAX_CONCURRENT = 2
# Small, so that a dozen training runs take minutes; equal in all arms.
NETWORK = ClassifierConfig(channels=(16, 32, 64, 128), convs_per_block=1, embedding_dim=128, dropout=0.2)


def extract_datasets(arguments: argparse.Namespace, fold: int) -> dict[bool, Path]:
    """Extract shards without and with augmented copies; with --keep, of the clips that `fold` trains on."""
    parent = arguments.out if arguments.keep is None else arguments.out / f"fold_{fold}"
    datasets = {False: parent / "plain", True: parent / "augmented"}
    data = arguments.data if arguments.keep is None else few_clips(arguments, fold, parent / "data")
    patterns = {"fold_pattern": arguments.fold_pattern, "group_pattern": arguments.group_pattern}
    for augmented, out in datasets.items():
        copies = arguments.copies if augmented else 0
        extract(ExtractConfig(data=data, out=out, copies=copies, **patterns))
    return datasets


def few_clips(arguments: argparse.Namespace, fold: int, out: Path) -> Path:
    """Copy all clips of a fold, and --keep clips of each class of the others, the same in every call."""
    for folder in sorted(path for path in arguments.data.iterdir() if path.is_dir()):
        held_out: list[Path] = []
        others: list[Path] = []
        for path in sorted(path for path in folder.iterdir() if path.is_file()):
            match = re.search(arguments.fold_pattern, path.name)
            (held_out if match and int(match.group(1)) == fold else others).append(path)
        kept = np.random.default_rng(0).permutation(len(others))[: arguments.keep]
        (out / folder.name).mkdir(parents=True, exist_ok=True)
        for path in (*held_out, *(others[index] for index in kept)):
            copy = out / folder.name / path.name
            # A new modification time would be a new dataset, of which no run resumes.
            if not copy.is_file() or copy.stat().st_size != path.stat().st_size:
                shutil.copyfile(path, copy)
    return out


def generate_dataset(arguments: argparse.Namespace, shards: Path, fold: int, arm: str) -> Path:
    """Generate clips by a GAN of the other folds, which is trained first without --gans; return shards.

    Augmented copies train only the classifier of the GAN.
    """
    run = gan_run(arguments, fold)
    if arguments.gans is None:
        train_gan(TrainGanConfig(shards=shards, run=run, fold=fold, epochs=arguments.gan_epochs))
    confidence = GENERATED[arm]
    out = arguments.out / f"{'generated' if confidence else 'unfiltered'}_{fold}"
    if not (out / "_manifest.json").is_file():
        generate_on_cluster(
            GenerateConfig(
                run=run, out=out, count=arguments.per_class, min_confidence=confidence, as_shards=True
            )
        )
    return out


def gan_run(arguments: argparse.Namespace, fold: int) -> Path:
    """Return the run of the GAN that is not trained on a fold."""
    if arguments.gans is None:
        return arguments.out / f"gan_{fold}"
    return arguments.gans / f"default-fold-{fold}-1"


def arm_config(
    arguments: argparse.Namespace,
    datasets: dict[bool, Path],
    extra: dict[str, Path],
    arm: str,
    fold: int,
    seed: int,
) -> TrainClassifierConfig:
    """Configure a training run of one arm with the number of epochs that gives --steps steps."""
    config = TrainClassifierConfig(
        shards=datasets[arm in ("waveform", "both")],
        extra_shards=(extra[arm],) if arm in extra else (),
        run=arguments.out / "arms" / f"{arm}_fold{fold}_seed{seed}",
        model=NETWORK,
        fold=fold,
        val_fraction=0.0,
        learning_rate=4e-3,
        seed=seed,
    )
    rows = len(split_rows(open_dataset(config.shards), config).train) + sum(
        len(open_dataset(path).table) for path in config.extra_shards
    )
    epochs = max(1, round(arguments.steps / -(-rows // config.batch_size)))
    return config.model_copy(update={"epochs": epochs, "patience": epochs})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--folds", type=int, nargs="+", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--gan-epochs", type=int, default=60)
    parser.add_argument("--gans", type=Path, help="--work of bench_gan_recipe, whose GANs of seed 1 are used")
    parser.add_argument("--per-class", type=int, default=100)
    parser.add_argument("--copies", type=int, default=4)
    parser.add_argument("--keep", type=int)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--fold-pattern", default=r"^(\d)-")
    parser.add_argument("--group-pattern", default=r"^\d-(\d+)-")
    arguments = parser.parse_args()
    arguments.out = arguments.out.absolute()
    scores: dict[str, dict[tuple[int, int], float]] = {arm: {} for arm in ARMS}
    generated_rows: dict[int, dict[str, Any]] = {}
    with session():
        for fold in arguments.folds:
            datasets = extract_datasets(arguments, fold)
            extra = {arm: generate_dataset(arguments, datasets[True], fold, arm) for arm in GENERATED}
            generated_rows[fold] = {arm: class_counts(path) for arm, path in extra.items()}
            runs = {
                (arm, fold, seed): arm_config(arguments, datasets, extra, arm, fold, seed)
                for arm in ARMS
                for seed in arguments.seeds
            }
            pending = {" ".join(map(str, key)): run for key, run in runs.items() if begin_run(run) is None}
            if pending:
                train_concurrently(pending, ResourceConfig(), MAX_CONCURRENT)
            for (arm, _, seed), run in runs.items():
                metrics = evaluate(EvaluateConfig(run=run.run, split="held-out"))
                scores[arm][fold, seed] = metrics["accuracy"]
    save_result(
        "gain" if arguments.keep is None else f"gain_{arguments.keep}",
        {
            "arms": {
                arm: mean_and_std(each)
                | {"each": {f"fold {fold}, seed {seed}": value for (fold, seed), value in each.items()}}
                for arm, each in scores.items()
            },
            "gains": {arm: gain(scores[arm], scores[base]) for arm, base in BASES.items()},
            "generated_rows": generated_rows,
            "gans": gan_summaries(arguments),
        },
    )


def class_counts(shards: Path) -> dict[str, int]:
    """Return the number of rows of each class."""
    counts = open_dataset(shards).table["label"].value_counts().sort_index()
    return {str(label): int(count) for label, count in counts.items()}


def gain(scores: dict[tuple[int, int], float], base: dict[tuple[int, int], float]) -> dict[str, float]:
    """Return the mean difference of the scores of each fold and seed, and its p value, of two sides."""
    folds = sorted({fold for fold, _ in scores})
    differences = [
        statistics.mean(scores[key] - base[key] for key in scores if key[0] == fold) for fold in folds
    ]
    return {"mean": statistics.mean(differences), "p": sign_flip_p(differences)}


def sign_flip_p(differences: list[float]) -> float:
    """Return the fraction of all choices of signs whose sum is at least as far from 0 as that of the data."""
    signs = np.array(list(itertools.product((1, -1), repeat=len(differences))))
    sums = np.abs(signs @ np.array(differences))
    return float((sums >= abs(sum(differences)) - 1e-12).mean())


def mean_and_std(scores: dict[tuple[int, int], float]) -> dict[str, float]:
    """Return the mean of all folds, with its standard deviation over the seeds, by the scores of both."""
    seeds = sorted({seed for _, seed in scores})
    means = [statistics.mean(scores[key] for key in scores if key[1] == seed) for seed in seeds]
    return {"mean": statistics.mean(means), "std": statistics.stdev(means) if len(means) > 1 else 0.0}


def gan_summaries(arguments: argparse.Namespace) -> dict[int, dict[str, Any]]:
    """Return the final metrics of the GAN of each fold."""
    keys = ("best_epoch", "class_accuracy", "frechet", "total_seconds")
    summaries = {
        fold: RunFolder(gan_run(arguments, fold)).read_json("summary.json") for fold in arguments.folds
    }
    return {fold: {key: summary.get(key) for key in keys} for fold, summary in summaries.items()}


if __name__ == "__main__":
    main()
