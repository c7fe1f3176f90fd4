"""`melray demo`: the whole pipeline on synthetic sounds, in a few minutes."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field

from models.classifier import ClassifierConfig
from models.config import Seed
from models.settings import SpecAugmentConfig
from pipeline.audio.synthetic_dataset import write_dataset
from pipeline.classifier.baseline import linear_baseline
from pipeline.classifier.command_configs import EvaluateConfig
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.evaluate import evaluate
from pipeline.classifier.predict import PredictConfig, predict
from pipeline.classifier.train import train_classifier
from pipeline.data.dataset import open_dataset
from pipeline.data.split import split_rows
from pipeline.distributed.resources import AutoscalingConfig
from pipeline.extract import ExtractConfig, extract
from pipeline.gan.config import TrainGanConfig
from pipeline.gan.generate import GenerateConfig, generate
from pipeline.gan.train import train_gan
from pipeline.io.console import duration, logger
from pipeline.io.storage import PathOrURI


class DemoConfig(AutoscalingConfig):
    """Run the whole pipeline on synthetic sounds.

    Synthesize sounds of several classes, extract, train a classifier, evaluate, predict; then train a GAN and
    generate new sounds.
    """

    out: PathOrURI = Path("runs/demo")
    """Output folder; rerun to resume."""
    train_per_class: int = Field(50, ge=10)
    """Labeled clips per class."""
    test_per_class: int = Field(12, ge=1)
    """Unlabeled clips per class."""
    epochs: int = Field(30, ge=1)
    """Maximum number of epochs of the classifier."""
    gan_steps: int = Field(700, ge=0)
    """Generator training steps, a minute or two; 0 skips the GAN."""
    workers: int = Field(1, ge=1)
    """Training workers."""
    seed: Seed = 42
    """Random seed of the sounds and of training."""


def run_demo(config: DemoConfig) -> dict[str, float]:
    """Run the pipeline; return the test accuracies of the classifier (`network`) and a baseline (`linear`).

    Raises:
        UserError: as the commands of the pipeline.
    """
    start = time.monotonic()
    out, sounds = config.out, config.out / "sounds"
    steps = 7 if config.gan_steps else 5
    logger.info("demo in %s", out)
    log_step(1, steps, "synthesizing sounds")
    write_dataset(
        sounds, train_per_class=config.train_per_class, test_per_class=config.test_per_class, seed=config.seed
    )
    log_step(2, steps, "extracting spectrograms")
    wait = config.wait_for_nodes
    extract(ExtractConfig(data=sounds, out=out / "shards", copies=1, seed=config.seed, wait_for_nodes=wait))
    log_step(3, steps, "training the classifier")
    classifier_config = demo_classifier_config(config)
    train_classifier(classifier_config)
    log_step(4, steps, "evaluating the classifier")
    evaluate(EvaluateConfig(run=classifier_config.run))
    log_step(5, steps, "predicting unlabeled clips")
    predict(
        PredictConfig(
            run=classifier_config.run, audio=sounds / "test", out=out / "prediction", wait_for_nodes=wait
        )
    )
    if config.gan_steps:
        log_step(6, steps, "training the GAN, briefly")
        train_gan(demo_gan_config(config))
        log_step(7, steps, "generating new sounds")
        generate(GenerateConfig(run=out / "generator", out=out / "generated", count=2, wait_for_nodes=wait))
    accuracies = score_demo(classifier_config, out)
    print_summary(config, accuracies, time.monotonic() - start)
    return accuracies


def print_summary(config: DemoConfig, accuracies: dict[str, float], seconds: float) -> None:
    """Print test accuracies, duration and the paths of the results."""
    network, linear = accuracies["network"], accuracies["linear"]
    print(f"\ntest accuracy: network {network:.1%}, linear model on the mean spectrum {linear:.1%}")
    print(f"took {duration(seconds)}\n")
    results = {
        "submission": "prediction/submission.csv",
        "classifier": "classifier/model.safetensors",
        "classifier report": "classifier/report.html",
    }
    if config.gan_steps:
        results |= {
            "generated sounds": "generated",
            "generator": "generator/model.safetensors",
            "GAN report": "generator/report.html",
        }
    width = max(map(len, results))
    for name, path in results.items():
        print(f"{name:<{width}}  {config.out / path}")


def demo_classifier_config(config: DemoConfig) -> TrainClassifierConfig:
    """Return the configuration of a small network that trains in minutes on two cores."""
    return TrainClassifierConfig(
        shards=config.out / "shards",
        run=config.out / "classifier",
        model=ClassifierConfig(channels=(16, 32, 64, 128), convs_per_block=1, embedding_dim=128, dropout=0.2),
        spec_augment=SpecAugmentConfig(roll=0.1),
        epochs=config.epochs,
        patience=12,
        learning_rate=4e-3,
        ema_decay=0.98,
        workers=config.workers,
        wait_for_nodes=config.wait_for_nodes,
        seed=config.seed,
    )


def demo_gan_config(config: DemoConfig) -> TrainGanConfig:
    """Return the configuration of a short GAN training run on the original clips.

    With 6,000 steps and a reference classifier the clips are good (docs/results.md).
    """
    epoch = min(100, config.gan_steps)
    epochs = -(-config.gan_steps // epoch)
    return TrainGanConfig(
        shards=config.out / "shards",
        run=config.out / "generator",
        epochs=epochs,
        epoch_steps=epoch,
        sample_every=max(1, epochs // 3),
        select_best=False,
        workers=config.workers,
        wait_for_nodes=config.wait_for_nodes,
        seed=config.seed,
    )


def score_demo(config: TrainClassifierConfig, out: Path) -> dict[str, float]:
    """Return the accuracies of the submission and of a linear baseline on the test clips."""
    labels = pd.read_csv(out / "sounds" / "test_labels.csv").set_index("id")["label"]
    predicted = pd.read_csv(out / "prediction" / "submission.csv").set_index("id")["label"]
    network = float((predicted.loc[labels.index] == labels).mean())
    dataset = open_dataset(config.shards)
    train = split_rows(dataset, config).train
    linear = linear_accuracy(dataset.mels[train], dataset.labels[train], dataset.class_names, out, labels)
    return {"network": network, "linear": linear}


def linear_accuracy(
    mels: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...], out: Path, test_labels: pd.Series
) -> float:
    """Return the test accuracy of the linear baseline, trained on the same rows as the classifier.

    Args:
        mels: training spectrograms [shape=(rows, n_mels, frames)].
        labels: their classes [shape=(rows,)].
        class_names: names of the classes.
        out: output folder of the demo.
        test_labels: label of each test clip by file name.
    """
    from pipeline.audio.features import load_clip, spectrogram
    from pipeline.data.shard_manifest import open_shards

    features = open_shards(out / "shards").features
    test_mels = np.stack(
        [
            spectrogram(load_clip(out / "sounds" / "test" / name, features), features)
            for name in test_labels.index
        ]
    )
    classes = np.array([class_names.index(label) for label in test_labels])
    return linear_baseline(mels, labels, test_mels, classes)


def log_step(number: int, steps: int, description: str) -> None:
    """Log the start of a step."""
    logger.info("step %d of %d: %s", number, steps, description)
