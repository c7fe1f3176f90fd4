"""Small datasets of tones, which a tiny network classifies after seconds of training, with configurations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from models.classifier import ClassifierConfig
from models.gan import GanConfig
from models.settings import MixUpConfig, SpecAugmentConfig
from pipeline.audio.features import FeatureConfig
from pipeline.audio.mel import MelConfig
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.distributed.batch_job import run_in_process
from pipeline.extract import ExtractConfig, extract
from pipeline.gan.config import TrainGanConfig

RATE = 8000
SMALL_FEATURES = FeatureConfig(
    mel=MelConfig(sample_rate=RATE, n_fft=256, hop_length=256, n_mels=16), seconds=1.0, trim_db=None
)


def tone(frequency: float, seconds: float = 1.0, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """Generate a sine with weak noise, float32."""
    time = np.arange(int(seconds * rate)) / rate
    noise = np.random.default_rng(seed).standard_normal(time.size) * 0.01
    return (0.3 * np.sin(2 * np.pi * frequency * time) + noise).astype(np.float32)


def write_tones(folder: Path, classes: int = 3, clips: int = 10, seconds: float = 1.0) -> Path:
    """Write `<folder>/train/<class>/<fold>-<recording>-<clip>.wav`: two clips per recording, five folds."""
    for number in range(classes):
        class_folder = folder / "train" / f"tone {number}"
        class_folder.mkdir(parents=True, exist_ok=True)
        for clip in range(clips):
            recording = clip // 2
            frequency = 300 * 2**number * (1 + 0.02 * recording)
            name = f"{recording % 5 + 1}-{number}{recording:03d}-{clip}.wav"
            soundfile.write(class_folder / name, tone(frequency, seconds, seed=100 * number + clip), RATE)
    return folder


def write_shards(folder: Path, classes: int = 3, clips: int = 10, copies: int = 1) -> Path:
    """Write shards of tones without Ray."""
    data = write_tones(folder / "data", classes, clips)
    extract(extract_config(data, folder / "shards", copies), run_in_process)
    return folder / "shards"


def extract_config(data: Path, out: Path, copies: int = 1, **overrides: object) -> ExtractConfig:
    """Configure an extraction of tones, with folds and recordings parsed from file names."""
    patterns = {"group_pattern": r"^\d-(\d+)-", "fold_pattern": r"^(\d)-"}
    return ExtractConfig(
        **{"data": data, "out": out, "copies": copies, "features": SMALL_FEATURES} | patterns | overrides
    )


# Mistakes some clips after a few epochs, as tests of mistakes need; together with a head on texture, none.
SMALL_NETWORK = ClassifierConfig(
    channels=(8, 16), convs_per_block=1, embedding_dim=16, dropout=0.1, texture=False
)


def train_config(shards: Path, run: Path, **overrides: object) -> TrainClassifierConfig:
    """Configure a classifier that trains within seconds."""
    settings: dict[str, object] = {
        "shards": shards,
        "run": run,
        "model": SMALL_NETWORK.model_copy(update={"texture": True}),
        "mixup": MixUpConfig(rate=0.5),
        "spec_augment": SpecAugmentConfig(roll=0.1),
        "epochs": 4,
        "batch_size": 16,
        "warmup_epochs": 1.0,
        "ema_decay": 0.9,
        "precision": "fp32",
        "cpus_per_worker": 1,
    }
    return TrainClassifierConfig(**settings | overrides)


def gan_config(shards: Path, run: Path, **overrides: object) -> TrainGanConfig:
    """Configure a GAN that trains within seconds; images and audio are written at its end only."""
    settings: dict[str, object] = {
        "shards": shards,
        "run": run,
        "gan": GanConfig(latent_dim=8, style_dim=16, channels=(8, 16), patch=4),
        "epochs": 2,
        "epoch_steps": 3,
        "batch_size": 8,
        "sample_every": 1000,
        "samples_per_class": 1,
        "select_best": False,
        "precision": "fp32",
    }
    return TrainGanConfig(**settings | overrides)
