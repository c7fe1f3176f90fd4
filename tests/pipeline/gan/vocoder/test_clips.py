"""Segments of recordings: aligned with their spectrograms, never silent, and only of audio that is there."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.audio.mel import log_mel
from pipeline.data.dataset import open_dataset
from pipeline.gan.vocoder.clips import Clips, SegmentSampler, read_clips
from pipeline.io.errors import UserError
from tests.helpers.sounds import RATE, tone
from tests.pipeline.gan.vocoder.conftest import FEATURES

HOP = FEATURES.mel.hop_length


def original_rows(shards: Path) -> np.ndarray:
    return np.flatnonzero(open_dataset(shards).table["copy"] == 0)


def test_segments_have_the_spectrograms_of_their_samples(overlapping: Path) -> None:
    clips = read_clips(open_dataset(overlapping), original_rows(overlapping))
    assert len(clips.samples) == len(clips.mels) == 30 and clips.missing == 0
    mels, samples = SegmentSampler(clips, 40, FEATURES.mel, 30.0).sample(np.random.default_rng(0), 16)
    assert mels.shape == (16, 16, 40) and samples.shape == (16, 39 * HOP)
    assert samples.dtype == mels.dtype == np.float32
    tops = mels.max(axis=(1, 2))
    assert (tops <= 1e-3).all() and (tops >= -30).all() and np.ptp(tops) > 15
    for mel, segment in zip(mels, samples, strict=True):
        # At the ends the windows of the clip's spectrogram reach beyond the segment.
        difference = np.abs(log_mel(FEATURES.mel)(segment) - mel)[:, 3:-3]
        assert difference[mel[:, 3:-3] > mel.max() - 60].max() < 0.1


def test_silent_parts_are_not_sampled() -> None:
    quiet = np.zeros(4 * RATE, np.float32)
    samples = np.concatenate([quiet, tone(440), quiet])
    clips = Clips([samples], [log_mel(FEATURES.mel)(samples)], 0)
    mels, segments = SegmentSampler(clips, 40, FEATURES.mel, 0.0).sample(np.random.default_rng(0), 50)
    assert (np.abs(segments).max(axis=1) > 0.01).all()
    assert mels.max(axis=(1, 2)) == pytest.approx(np.zeros(50), abs=1e-3)


def test_clips_without_audio_are_counted_and_their_folder_is_named(overlapping: Path, tmp_path: Path) -> None:
    data = overlapping.parent / "data"
    moved = tmp_path / "elsewhere"
    dataset, rows = open_dataset(overlapping), original_rows(overlapping)
    shutil.move(data / "train/tone 0", moved)
    try:
        clips = read_clips(dataset, rows)
        assert clips.missing == 10 and len(clips.samples) == 20
        with pytest.raises(
            UserError, match=r"none of 10 clips can be read .*tone 0.*: extract again from where"
        ):
            read_clips(dataset, rows[:10])
    finally:
        shutil.move(moved, data / "train/tone 0")
