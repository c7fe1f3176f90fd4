"""Gain of generated clips as additional training data: four arms with equal held-out clips, steps and seeds.

    python -m benchmarks.bench_gain --data AUDIO --out FOLDER --folds 5 --gan-epochs 60

For each fold, a GAN is trained on the training clips of that fold and generates a dataset of clips that its
reference classifier classifies correctly. Then classifiers are trained for the same number of steps in each
arm:

    none        original clips
    waveform    original clips and augmented copies
    generated   original and generated clips
    both        all three

and evaluated on the held-out fold, which is not used for any selection. SpecAugment and MixUp are active in
all arms, as by default. A rerun resumes.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

from benchmarks.common import save_result
from cluster.connection.session import session
from models.classifier import ClassifierConfig
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.evaluate import evaluate
from pipeline.classifier.evaluation_rows import EvaluateConfig
from pipeline.classifier.train import begin_run, train_concurrently
from pipeline.data.dataset import open_dataset
from pipeline.data.split import split_rows
from pipeline.distributed.resources import ResourceConfig
from pipeline.extract import ExtractConfig, extract
from pipeline.gan.config import TrainGanConfig
from pipeline.gan.generate import GenerateConfig, generate_on_cluster
from pipeline.gan.train import train_gan
from pipeline.training.run_folder import RunFolder

ARMS = ("none", "waveform", "generated", "both")
MAX_CONCURRENT = 2
# Small, so that a dozen training runs take minutes; equal in all arms.
NETWORK = ClassifierConfig(channels=(16, 32, 64, 128), convs_per_block=1, embedding_dim=128, dropout=0.2)


def extract_datasets(arguments: argparse.Namespace) -> dict[bool, Path]:
    """Extract shards without and with augmented copies."""
    datasets = {False: arguments.out / "plain", True: arguments.out / "augmented"}
    patterns = {"fold_pattern": arguments.fold_pattern, "group_pattern": arguments.group_pattern}
    for augmented, out in datasets.items():
        extract(
            ExtractConfig(
                data=arguments.data, out=out, copies=arguments.copies if augmented else 0, **patterns
            )
        )
    return datasets


def generate_dataset(arguments: argparse.Namespace, shards: Path, fold: int) -> Path:
    """Train a GAN on the other folds and generate clips; augmented copies train its classifier only."""
    run = arguments.out / f"gan_{fold}"
    train_gan(TrainGanConfig(shards=shards, run=run, fold=fold, epochs=arguments.gan_epochs))
    out = arguments.out / f"generated_{fold}"
    if not (out / "_manifest.json").is_file():
        job = GenerateConfig(run=run, out=out, count=arguments.per_class, min_confidence=0.5, as_shards=True)
        generate_on_cluster(job)
    return out


def arm_config(
    arguments: argparse.Namespace, datasets: dict[bool, Path], extra: Path, arm: str, fold: int, seed: int
) -> TrainClassifierConfig:
    """Configure a training run of one arm with the number of epochs that gives --steps steps."""
    config = TrainClassifierConfig(
        shards=datasets[arm in ("waveform", "both")],
        extra_shards=(extra,) if arm in ("generated", "both") else (),
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
    parser.add_argument("--per-class", type=int, default=100)
    parser.add_argument("--copies", type=int, default=4)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--fold-pattern", default=r"^(\d)-")
    parser.add_argument("--group-pattern", default=r"^\d-(\d+)-")
    arguments = parser.parse_args()
    arguments.out = arguments.out.absolute()
    scores: dict[str, dict[str, float]] = {arm: {} for arm in ARMS}
    generated_rows = {}
    with session():
        datasets = extract_datasets(arguments)
        for fold in arguments.folds:
            extra = generate_dataset(arguments, datasets[True], fold)
            generated_rows[fold] = open_dataset(extra).table["label"].value_counts().sort_index().to_dict()
            runs = {
                (arm, fold, seed): arm_config(arguments, datasets, extra, arm, fold, seed)
                for arm in ARMS
                for seed in arguments.seeds
            }
            pending = {" ".join(map(str, key)): run for key, run in runs.items() if begin_run(run) is None}
            if pending:
                train_concurrently(pending, ResourceConfig(), MAX_CONCURRENT)
            for (arm, fold, seed), run in runs.items():
                scores[arm][f"fold {fold}, seed {seed}"] = evaluate(
                    EvaluateConfig(run=run.run, split="held-out")
                )["accuracy"]
    save_result(
        "gain",
        {
            "arms": {arm: mean_and_std(list(each.values())) | {"each": each} for arm, each in scores.items()},
            "generated_rows": generated_rows,
            "gans": gan_summaries(arguments),
        },
    )


def mean_and_std(values: list[float]) -> dict[str, float]:
    """Return mean and standard deviation."""
    return {
        "mean": statistics.mean(values),
        "std": statistics.stdev(values) if len(values) > 1 else 0.0,
    }


def gan_summaries(arguments: argparse.Namespace) -> dict[int, dict[str, Any]]:
    """Return the final metrics of the GAN of each fold."""
    keys = ("best_epoch", "class_accuracy", "frechet", "total_seconds")
    summaries = {
        fold: RunFolder(arguments.out / f"gan_{fold}").read_json("summary.json") for fold in arguments.folds
    }
    return {fold: {key: summary.get(key) for key in keys} for fold, summary in summaries.items()}


if __name__ == "__main__":
    main()
