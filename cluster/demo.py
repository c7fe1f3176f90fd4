"""The whole way on generated sounds, in a few minutes: what a newcomer runs first."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field

from models.batch_augment import SpecAugmentConfig
from models.classifier import ClassifierConfig
from pipeline.audio.synthesize import write_sound_set
from pipeline.classifier.baseline import linear_baseline
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.evaluate import EvaluateConfig, evaluate
from pipeline.classifier.predict import PredictConfig, predict
from pipeline.classifier.train import train_classifier
from pipeline.data.dataset import open_dataset
from pipeline.data.split import split_rows
from pipeline.distributed.resources import AutoscalingConfig
from pipeline.extract import ExtractConfig, extract
from pipeline.gan.config import TrainGanConfig
from pipeline.gan.generate import GenerateConfig, generate
from pipeline.gan.train import train_gan
from pipeline.io.console import duration
from pipeline.io.storage import PathOrURI


class DemoConfig(AutoscalingConfig):
    """Generates sounds of several classes, extracts, trains, evaluates and predicts; then trains a generator and draws new sounds."""

    out: PathOrURI = Path("runs/demo")
    """Folder for everything; the same command again goes on where it stopped."""
    train_per_class: int = Field(50, ge=10)
    """Labelled clips of each class."""
    test_per_class: int = Field(12, ge=1)
    """Unlabelled clips of each class."""
    epochs: int = Field(30, ge=1)
    """Passes over the training rows, at most."""
    gan_steps: int = Field(700, ge=0)
    """Steps of the generator's training, a minute or two: enough to see and hear where it is going; 0 leaves it out."""
    workers: int = Field(1, ge=1)
    """Workers of the trainings."""
    seed: int = 42
    """Seed of sounds and training."""


def run_demo(config: DemoConfig) -> dict[str, float]:
    """Goes the whole way; returns the accuracies on the test clips of the network and of a linear model.

    Raises:
        UserError: as the stages do.
    """
    start = time.monotonic()
    out, sounds = config.out, config.out / "sounds"
    step("1 of 7: generating sounds", out)
    write_sound_set(
        sounds, train_per_class=config.train_per_class, test_per_class=config.test_per_class, seed=config.seed
    )
    step("2 of 7: audio to spectrograms", out)
    wait = config.wait_for_nodes
    extract(ExtractConfig(data=sounds, out=out / "shards", copies=1, seed=config.seed, wait_for_nodes=wait))
    step("3 of 7: training the classifier", out)
    training = demo_training(config)
    train_classifier(training)
    step("4 of 7: evaluating it", out)
    evaluate(EvaluateConfig(run=training.run))
    step("5 of 7: predicting the unlabelled clips", out)
    predict(
        PredictConfig(run=training.run, audio=sounds / "test", out=out / "prediction", wait_for_nodes=wait)
    )
    if config.gan_steps:
        step("6 of 7: training the generator, briefly", out)
        train_gan(demo_gan(config))
        step("7 of 7: drawing new sounds", out)
        generate(GenerateConfig(run=out / "generator", out=out / "drawn", count=2, wait_for_nodes=wait))
    scores = score_demo(training, out)
    print(
        f"\ntest clips: the network {scores['network']:.1%}, a linear model on the mean spectrum {scores['linear']:.1%} accuracy"
    )
    print(f"in {duration(time.monotonic() - start)}\n")
    made = {
        "submission": "prediction/submission.csv",
        "classifier": "classifier/model.safetensors",
        "its report": "classifier/report.html",
    }
    if config.gan_steps:
        made |= {
            "new sounds": "drawn",
            "generator": "generator/model.safetensors",
            "its growth": "generator/report.html",
        }
    for what, path in made.items():
        print(f"{what:<11} {out / path}")
    return scores


def demo_training(config: DemoConfig) -> TrainClassifierConfig:
    """A small network that learns the generated sounds in minutes on two cores."""
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


def demo_gan(config: DemoConfig) -> TrainGanConfig:
    """A generator of the same sounds, from the shards as they are; 6,000 steps and a judge make a good one (docs/results.md)."""
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


def score_demo(training: TrainClassifierConfig, out: Path) -> dict[str, float]:
    """Accuracy on the test clips, whose labels the demo knows: the submission's, and that of a model that can't see time."""
    truth = pd.read_csv(out / "sounds" / "test_labels.csv").set_index("id")["label"]
    said = pd.read_csv(out / "prediction" / "submission.csv").set_index("id")["label"]
    network = float((said.loc[truth.index] == truth).mean())
    rows = open_dataset(training.shards)
    split = split_rows(rows, training)
    return {
        "network": network,
        "linear": linear_on_test(
            rows.mels[split.train], rows.labels[split.train], rows.class_names, out, truth
        ),
    }


def linear_on_test(
    mels: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...], out: Path, truth: pd.Series
) -> float:
    """Accuracy of the linear baseline, which gets the same training rows and test clips."""
    from pipeline.audio.features import load_clip, spectrogram
    from pipeline.data.shards import open_shards

    features = open_shards(out / "shards").features
    tests = np.stack(
        [spectrogram(load_clip(out / "sounds" / "test" / name, features), features) for name in truth.index]
    )
    return linear_baseline(mels, labels, tests, np.array([class_names.index(label) for label in truth]))


def step(text: str, out: Path) -> None:
    """Says which stage begins."""
    print(f"\n== {text} (in {out})", flush=True)
