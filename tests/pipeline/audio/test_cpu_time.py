"""Estimated CPU time of clips, by which small work is distinguished from large."""

from __future__ import annotations

import pandas as pd
import pytest

from pipeline.audio.cpu_time import clip_seconds
from pipeline.audio.features import FeatureConfig

FEATURES = FeatureConfig()


def clips(*endings: str, size: int = 440_000) -> pd.DataFrame:
    return pd.DataFrame({"path": [f"/a/b{ending}" for ending in endings], "size": size})


def test_clip_of_five_seconds_takes_milliseconds() -> None:
    assert clip_seconds(clips(".wav"), FEATURES) == pytest.approx(0.002, rel=0.5)
    assert clip_seconds(clips(".mp3", size=80_000), FEATURES) == pytest.approx(0.006, rel=0.5)


def test_estimate_grows_with_what_is_to_be_computed() -> None:
    base = clip_seconds(clips(".WAV"), FEATURES)
    assert clip_seconds(clips(".WAV", size=10**9), FEATURES) > 1 > base
    assert clip_seconds(clips(".mp3"), FEATURES) > clip_seconds(clips(".flac"), FEATURES) > base
    assert clip_seconds(clips(".wav"), FEATURES, copies=2) > 2 * base
    assert clip_seconds(clips(".wav"), FEATURES, spectrograms=10) > 5 * base
    assert clip_seconds(clips(".wav"), FeatureConfig(seconds=50.0), copies=1) > 5 * base


def test_estimate_is_a_mean_of_all_kinds() -> None:
    mixed = clip_seconds(clips(*[".wav", ".mp3"] * 5000), FEATURES)
    both = clip_seconds(clips(".wav"), FEATURES), clip_seconds(clips(".mp3"), FEATURES)
    assert min(both) <= mixed <= max(both)
    assert clip_seconds(clips(), FEATURES) > 0
