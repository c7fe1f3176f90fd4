"""Sounds and clips on which an exported classifier is checked, compared and calibrated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.audio.decode import AudioDecodeError
from pipeline.audio.features import FeatureConfig
from pipeline.classifier.clip_audio import read_row
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.evaluation_rows import check_features
from pipeline.classifier.predictor_model import member_runs
from pipeline.data.dataset import ShardDataset
from pipeline.data.loader import subsample_evenly
from pipeline.io.errors import UserError
from pipeline.training.export.config import ExportConfig
from pipeline.training.run import load_run_data

# Clips that are read from their files again, and spectrograms to calibrate and to compare with.
CHECKED_CLIPS, CALIBRATION_CLIPS, COMPARED_CLIPS = 8, 64, 400


@dataclass(frozen=True)
class RunClips:
    """Clips of the dataset of a run, as row indices."""

    dataset: ShardDataset
    calibration: np.ndarray
    """Some of the clips trained on."""
    compared: np.ndarray
    """Some clips not trained on: of validation, held out, or else any."""
    description: str
    """What the compared ones are."""


def load_run_clips(config: ExportConfig, features: FeatureConfig) -> RunClips:
    """Return clips of a run, of an ensemble or of the first model of a cross-validation.

    Raises:
        UserError: the dataset is missing, or has changed.
    """
    is_run = (config.run / "config.json").is_file()
    run: Path = config.run if is_run else member_runs(config.run)[0]
    hint = "give its shards by --shards"
    train_config, dataset, split = load_run_data(run, TrainClassifierConfig, hint, config.shards)
    check_features(dataset.features, features, train_config.shards)
    choices = {
        "validation": split.val,
        "held-out": split.held_out,
        "training": split.train,
    }
    description = next(name for name, rows in choices.items() if len(rows))
    return RunClips(
        dataset,
        subsample_evenly(split.train, CALIBRATION_CLIPS),
        subsample_evenly(choices[description], COMPARED_CLIPS),
        f"{description} clips",
    )


def read_sounds(clips: RunClips, features: FeatureConfig) -> list[np.ndarray]:
    """Return the samples of some compared clips, not trimmed; of those whose files are still there."""
    untrimmed = features.model_copy(update={"trim_db": None})
    sounds = []
    for row in subsample_evenly(clips.compared, CHECKED_CLIPS):
        try:
            samples = read_row(clips.dataset.table.iloc[row], untrimmed)
        except (AudioDecodeError, UserError, OSError):
            continue
        if samples is not None and samples.size:
            sounds.append(samples)
    return sounds


def synthetic_sounds(features: FeatureConfig) -> Iterator[np.ndarray]:
    """Yield sounds that are cropped, padded, trimmed, silent and too loud, float32."""
    rng, size = np.random.default_rng(0), features.num_samples
    noise = rng.standard_normal(2 * size).astype(np.float32)
    yield 0.1 * noise[: 3 * size // 2]
    yield 0.1 * noise[: max(1, size // 5)]
    fading = noise * np.logspace(0, -6, noise.size, dtype=np.float32)
    yield np.concatenate([np.zeros(size // 4, np.float32), fading])
    yield np.zeros(size, np.float32)
    yield 30 * noise[:size]
