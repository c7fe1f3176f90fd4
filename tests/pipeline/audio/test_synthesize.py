"""Tests of synthetic sounds: level, length, and classes that a linear model cannot separate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.audio.augment import row_rng
from pipeline.audio.features import FeatureConfig, spectrogram
from pipeline.audio.mel import MelConfig
from pipeline.audio.synthesize import CLASS_NAMES, synthesize_clip, synthesize_event
from pipeline.audio.synthetic_dataset import SAMPLE_RATES
from pipeline.classifier.baseline import linear_baseline

# Coarse in time: the baseline uses the mean over time only.
COARSE = FeatureConfig(mel=MelConfig(hop_length=2048))


@pytest.mark.parametrize("name", CLASS_NAMES)
@pytest.mark.parametrize("rate", SAMPLE_RATES)
def test_event_is_finite_and_normalized(name: str, rate: int):
    for number in range(5):
        event = synthesize_event(name, row_rng(0, name, number), rate)
        assert event.dtype == np.float32 and event.ndim == 1
        assert 0.3 < event.size / rate < 3.5
        assert np.isfinite(event).all()
        assert np.abs(event).max() == pytest.approx(1.0) and np.abs(event).max() <= 1.0
        assert np.sqrt(np.mean(event**2)) > 0.01


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_clip_has_valid_level_and_length(name: str):
    clips = [synthesize_clip(name, row_rng(0, name, number)) for number in range(8)]
    for clip in clips:
        assert clip.dtype == np.float32 and np.isfinite(clip).all()
        assert 0.05 < np.abs(clip).max() <= 1.0
        assert 2.0 <= clip.size / 22_050 <= 6.0
    assert len({clip.size for clip in clips}) > 1


@pytest.mark.parametrize(
    ("name", "reversed_name"), [("chirp_rising", "chirp_falling"), ("bell_struck", "bell_swelling")]
)
def test_class_pairs_are_time_reversals(name: str, reversed_name: str):
    np.testing.assert_array_equal(
        synthesize_event(name, np.random.default_rng(3)),
        synthesize_event(reversed_name, np.random.default_rng(3))[::-1],
    )


def test_linear_baseline_cannot_separate_classes(tmp_path: Path):
    arrays = []
    for split, count in (("train", 24), ("test", 10)):
        clips = [
            synthesize_clip(name, row_rng(1, f"{split}/{name}", i))
            for name in CLASS_NAMES
            for i in range(count)
        ]
        arrays += [
            np.stack([spectrogram(clip, COARSE) for clip in clips]),
            np.repeat(np.arange(len(CLASS_NAMES)), count),
        ]
    accuracy = linear_baseline(*arrays)
    assert 2 / len(CLASS_NAMES) < accuracy < 0.75


def test_linear_baseline_separates_linear_classes():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    mels = rng.normal(-40, 1, (60, 8, 20)).astype(np.float16)
    mels[np.arange(60), labels] += 10
    assert linear_baseline(mels[:30], labels[:30], mels[30:], labels[30:]) == 1.0
