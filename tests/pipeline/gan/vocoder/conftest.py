"""Shards whose frames overlap, and a vocoder and a GAN of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from models.settings import VocoderConfig
from pipeline.audio.features import FeatureConfig
from pipeline.audio.mel import MelConfig
from pipeline.distributed.batch_job import run_in_process
from pipeline.extract import extract
from pipeline.gan.vocoder.config import TrainVocoderConfig
from tests.helpers.sounds import RATE, extract_config, write_tones

FEATURES = FeatureConfig(
    mel=MelConfig(sample_rate=RATE, n_fft=256, hop_length=64, n_mels=16), seconds=1.0, trim_db=None
)


def vocoder_config(shards: Path, run: Path, **overrides: Any) -> TrainVocoderConfig:
    """Configure a vocoder that trains within seconds."""
    settings: dict[str, Any] = {
        "shards": shards,
        "run": run,
        "vocoder": VocoderConfig(channels=32, blocks=2, noise_channels=4),
        "epochs": 3,
        "epoch_steps": 4,
        "batch_size": 4,
        "segment_seconds": 0.5,
        "precision": "fp32",
        "cpus_per_worker": 1,
    }
    return TrainVocoderConfig(**settings | overrides)


@pytest.fixture(scope="session")
def overlapping(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return shards of tones, with their audio, whose frames overlap by three quarters."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("overlapping")
    data = write_tones(folder / "data")
    extract(extract_config(data, folder / "shards", features=FEATURES), run_in_process)
    return folder / "shards"
