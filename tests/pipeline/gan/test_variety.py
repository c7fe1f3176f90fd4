"""Warnings before a GAN is trained: silence, copies, and classes with the same clips, by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from pipeline.data.duplicates import SILENCE
from pipeline.distributed.batch_job import run_in_process
from pipeline.extract import ExtractConfig, extract
from pipeline.gan.train import check_clips
from pipeline.gan.variety import MAX_NAMES, MIN_DISTINCT_CLIPS, variety_warnings
from tests.helpers.sounds import RATE, SMALL_FEATURES, gan_config, tone


def make_clips(**contents: list[int]) -> pd.DataFrame:
    """Return original clips with digests of their content by class."""
    return pd.DataFrame(
        [(label, content) for label, values in contents.items() for content in values],
        columns=["label", "content"],
    )


FEW = range(1, MIN_DISTINCT_CLIPS)
MANY = range(100, 100 + MIN_DISTINCT_CLIPS)


def test_distinct_clips_make_no_warning() -> None:
    assert variety_warnings(make_clips(a=[*MANY], b=[*range(200, 230)])) == []


@pytest.mark.parametrize(
    ("clips", "expected"),
    [
        ({"a": [SILENCE] * 4}, ["silent training clips in 1 class, 'a' (4 of 4):"]),
        ({"a": [*MANY, SILENCE]}, ["silent training clips in 1 class, 'a' (1 of 6):"]),
        ({"a": [7] * 4}, ["fewer than 5 distinct training clips in 1 class, 'a' (1 in 4 clips):"]),
        ({"a": [7]}, ["fewer than 5 distinct training clips in 1 class, 'a' (1 in 1 clips):"]),
        ({"a": [*FEW]}, ["fewer than 5 distinct training clips in 1 class, 'a' (4 in 4 clips):"]),
        (
            {"a": [*MANY, 8], "c": [*MANY, 9]},
            ["same training clips in different classes: 'a' and 'c' (5 clips):"],
        ),
        (
            {"a": [SILENCE] * 4, "b": [7] * 4, "c": [7] * 4},
            [
                "silent training clips in 1 class, 'a' (4 of 4):",
                "fewer than 5 distinct training clips in 2 classes, 'b' (1 in 4 clips), 'c' (1 in 4 clips):",
                "same training clips in different classes: 'b' and 'c' (1 clip):",
            ],
        ),
    ],
    ids=["silence", "one silent", "copies", "one clip", "few", "equal classes", "all"],
)
def test_warnings_name_classes_and_counts(clips: dict[str, list[int]], expected: list[str]) -> None:
    varied = {"varied": [*range(1000, 1010)]}
    warnings = variety_warnings(make_clips(**clips, **varied))
    assert len(warnings) == len(expected)
    assert all(warning.startswith(start) for warning, start in zip(warnings, expected, strict=True))
    assert not any("varied" in warning or "\n" in warning for warning in warnings)


def test_warning_about_many_classes_is_short() -> None:
    (warning,) = variety_warnings(make_clips(**{f"class {i:03d}": [SILENCE] for i in range(200)}))
    assert "in 200 classes, 'class 000' (1 of 1), 'class 001'" in warning
    assert f"and {200 - MAX_NAMES} more:" in warning and len(warning) < 300


def test_silence_and_copies_are_found_in_shards(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sounds = {
        "silence": [np.zeros(RATE)] * 4,
        "copies": [tone(440)] * 4,
        "tones": [tone(300 + 20 * i, seed=i) for i in range(MIN_DISTINCT_CLIPS)],
    }
    for label, clips in sounds.items():
        (tmp_path / "data" / label).mkdir(parents=True)
        for number, samples in enumerate(clips):
            soundfile.write(tmp_path / "data" / label / f"{number}.wav", samples, RATE)
    extract(
        ExtractConfig(data=tmp_path / "data", out=tmp_path / "shards", features=SMALL_FEATURES),
        run_in_process,
    )
    caplog.clear()
    with caplog.at_level("WARNING", logger="melray"):
        check_clips(gan_config(tmp_path / "shards", tmp_path / "run", val_fraction=0.0))
    assert len(caplog.messages) == 2 and "tones" not in caplog.text
    assert "silent training clips in 1 class, 'silence' (4 of 4)" in caplog.text
    assert "distinct training clips in 1 class, 'copies' (1 in 4 clips)" in caplog.text
