"""Small sets of sounds and shards for tests: tones that a tiny network tells apart in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from models.batch_augment import MixUpConfig, SpecAugmentConfig
from models.classifier import ClassifierConfig
from models.gan import GanConfig
from pipeline.audio.features import FeatureConfig
from pipeline.audio.mel import MelConfig
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.extract import ExtractConfig, extract, run_in_process
from pipeline.gan.config import TrainGanConfig

RATE = 8000
SMALL = FeatureConfig(
    mel=MelConfig(sample_rate=RATE, n_fft=256, hop_length=256, n_mels=16), seconds=1.0, trim_db=None
)


def tone(hertz: float, seconds: float = 1.0, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """A sine in a little noise, float32."""
    time = np.arange(int(seconds * rate)) / rate
    noise = np.random.default_rng(seed).standard_normal(time.size) * 0.01
    return (0.3 * np.sin(2 * np.pi * hertz * time) + noise).astype(np.float32)


def write_tones(folder: Path, classes: int = 3, clips: int = 10, seconds: float = 1.0) -> Path:
    """`<folder>/train/<class>/<fold>-<recording>-<clip>.wav`: two clips a recording, five folds."""
    for number in range(classes):
        home = folder / "train" / f"tone {number}"
        home.mkdir(parents=True, exist_ok=True)
        for clip in range(clips):
            recording = clip // 2
            hertz = 300 * 2**number * (1 + 0.02 * recording)
            name = f"{recording % 5 + 1}-{number}{recording:03d}-{clip}.wav"
            soundfile.write(home / name, tone(hertz, seconds, seed=100 * number + clip), RATE)
    return folder


def write_shards(folder: Path, classes: int = 3, clips: int = 10, copies: int = 1) -> Path:
    """Shards of tones, made without Ray."""
    data = write_tones(folder / "data", classes, clips)
    extract(extract_config(data, folder / "shards", copies), run_in_process)
    return folder / "shards"


def extract_config(data: Path, out: Path, copies: int = 1, **changes: object) -> ExtractConfig:
    """An extraction of tones with folds and recordings from their names."""
    patterns = {"group_pattern": r"^\d-(\d+)-", "fold_pattern": r"^(\d)-"}
    return ExtractConfig(
        **{"data": data, "out": out, "copies": copies, "features": SMALL} | patterns | changes
    )


def train_config(shards: Path, run: Path, **changes: object) -> TrainClassifierConfig:
    """A training of seconds."""
    settings: dict[str, object] = {
        "shards": shards,
        "run": run,
        "model": ClassifierConfig(channels=(8, 16), convs_per_block=1, embedding_dim=16, dropout=0.1),
        "mixup": MixUpConfig(rate=0.5),
        "spec_augment": SpecAugmentConfig(roll=0.1),
        "epochs": 4,
        "batch_size": 16,
        "warmup_epochs": 1.0,
        "ema_decay": 0.9,
        "precision": "fp32",
        "cpus_per_worker": 1,
    }
    return TrainClassifierConfig(**settings | changes)


def gan_config(shards: Path, run: Path, **changes: object) -> TrainGanConfig:
    """A GAN of seconds."""
    settings: dict[str, object] = {
        "shards": shards,
        "run": run,
        "gan": GanConfig(latent_dim=8, style_dim=16, channels=(8, 16), patch=4),
        "epochs": 2,
        "epoch_steps": 3,
        "batch_size": 8,
        "sample_every": 1,
        "samples_per_class": 2,
        "select_best": False,
        "precision": "fp32",
    }
    return TrainGanConfig(**settings | changes)
