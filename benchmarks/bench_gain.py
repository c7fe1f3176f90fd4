"""What generated clips are worth as training rows: four arms, the same held-out clips, steps and seeds.

    python -m benchmarks.bench_gain --data AUDIO --out FOLDER --folds 5 --gan-epochs 60

For each fold a GAN learns from the training clips of that fold alone, and fills a set of generated rows, each one that its judge
recognises. Then classifiers are trained for as many steps in each arm, on

    none        the clips themselves
    waveform    and their augmented copies
    generated   the clips and generated rows
    both        all three

and scored on the held-out fold, which nothing was chosen on. SpecAugment and MixUp stay on in all arms, as users have them.
What is there already is not done again.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

from benchmarks.common import save
from cluster.connection.session import session
from models.classifier import ClassifierConfig
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.evaluate import EvaluateConfig, evaluate
from pipeline.classifier.train import begin_run, train_concurrently
from pipeline.data.dataset import open_dataset
from pipeline.data.split import split_rows
from pipeline.distributed.resources import ResourceConfig
from pipeline.extract import ExtractConfig, extract
from pipeline.gan.config import TrainGanConfig
from pipeline.gan.generate import GenerateConfig, generate, run_units
from pipeline.gan.train import train_gan
from pipeline.training.run_folder import RunFolder

ARMS = ("none", "waveform", "generated", "both")
AT_ONCE = 2
# Small, so that a dozen trainings take minutes; the same in all arms.
NETWORK = ClassifierConfig(channels=(16, 32, 64, 128), convs_per_block=1, embedding_dim=128, dropout=0.2)


def make_sets(arguments: argparse.Namespace) -> dict[bool, Path]:
    """Shards without and with augmented copies."""
    sets = {augmented: arguments.out / ("augmented" if augmented else "plain") for augmented in (False, True)}
    patterns = {"fold_pattern": arguments.fold_pattern, "group_pattern": arguments.group_pattern}
    for augmented, out in sets.items():
        extract(
            ExtractConfig(
                data=arguments.data, out=out, copies=arguments.copies if augmented else 0, **patterns
            )
        )
    return sets


def make_generated(arguments: argparse.Namespace, shards: Path, fold: int) -> Path:
    """Rows from a GAN that never saw the fold, nor augmented copies; its judge learns from those too."""
    run = arguments.out / f"gan_{fold}"
    train_gan(TrainGanConfig(shards=shards, run=run, fold=fold, epochs=arguments.gan_epochs))
    out = arguments.out / f"generated_{fold}"
    if not (out / "_manifest.json").is_file():
        job = GenerateConfig(run=run, out=out, count=arguments.per_class, min_confidence=0.5, as_shards=True)
        generate(job, run_units)
    return out


def arm_config(
    arguments: argparse.Namespace, sets: dict[bool, Path], extra: Path, arm: str, fold: int, seed: int
) -> TrainClassifierConfig:
    """A training of one arm: as many epochs as give the wanted number of steps."""
    config = TrainClassifierConfig(
        shards=sets[arm in ("waveform", "both")],
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
    kept = {}
    with session():
        sets = make_sets(arguments)
        for fold in arguments.folds:
            extra = make_generated(arguments, sets[True], fold)
            kept[fold] = open_dataset(extra).table["label"].value_counts().sort_index().to_dict()
            runs = {
                (arm, fold, seed): arm_config(arguments, sets, extra, arm, fold, seed)
                for arm in ARMS
                for seed in arguments.seeds
            }
            pending = {" ".join(map(str, key)): run for key, run in runs.items() if begin_run(run) is None}
            if pending:
                train_concurrently(pending, ResourceConfig(), AT_ONCE)
            for (arm, fold, seed), run in runs.items():
                scores[arm][f"fold {fold}, seed {seed}"] = evaluate(
                    EvaluateConfig(run=run.run, split="held-out")
                )["accuracy"]
    save(
        "gain",
        {
            "arms": {arm: summary(list(of.values())) | {"each": of} for arm, of in scores.items()},
            "generated_rows": kept,
            **gans(arguments),
        },
    )


def summary(values: list[float]) -> dict[str, float]:
    """Mean and deviation of accuracies."""
    return {
        "mean": statistics.mean(values),
        "deviation": statistics.stdev(values) if len(values) > 1 else 0.0,
    }


def gans(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the GANs of the folds came to."""
    found = {
        fold: RunFolder(arguments.out / f"gan_{fold}").read_json("summary.json") for fold in arguments.folds
    }
    return {
        "gans": {
            fold: {key: run.get(key) for key in ("best_epoch", "class_accuracy", "frechet", "total_seconds")}
            for fold, run in found.items()
        }
    }


if __name__ == "__main__":
    main()
