"""Starts and names of windows, and their settings."""

from __future__ import annotations

import pandas as pd
import pytest

from models.config import ConfigError
from pipeline.data.windows import (
    MinOverlap,
    WindowConfig,
    parse_overlap,
    recording_of,
    window_id,
    window_sizes,
    window_starts,
)


@pytest.mark.parametrize(
    ("seconds", "hop", "starts"),
    [
        (0.0, 5.0, [0.0]),
        (3.0, 5.0, [0.0]),
        (5.0, 5.0, [0.0]),
        (5.4, 5.0, [0.0]),
        (5.6, 5.0, [0.0, 5.0]),
        (10.0, 5.0, [0.0, 5.0]),
        (10.0, 2.5, [0.0, 2.5, 5.0]),
        (6.1, 1 / 3, [0.0, 0.333, 0.667]),
        # Gaps between windows, none of which begins after the end, or half a second before it.
        (7.0, 7.0, [0.0]),
        (7.4, 7.0, [0.0]),
        (7.5, 7.0, [0.0, 7.0]),
        (20.0, 10.0, [0.0, 10.0]),
    ],
)
def test_windows_cover_the_recording(seconds: float, hop: float, starts: list[float]):
    assert window_starts(seconds, 5.0, hop) == starts


def test_ids_sort_as_the_windows_do():
    ids = [window_id("site/rec.flac", start) for start in (0.0, 2.5, 12.5, 100.0, 43_200.125)]
    assert ids[2] == "site/rec.flac@000012.500"
    assert ids == sorted(ids)
    assert {recording_of(name) for name in ids} == {"site/rec.flac"}


@pytest.mark.parametrize(
    ("text", "overlap"),
    [
        ("0.25", MinOverlap(0.25, 0.0)),
        (" 1 s ", MinOverlap(1.0, 0.0)),
        (".5", MinOverlap(0.5, 0.0)),
        ("20%", MinOverlap(0.0, 0.2)),
        ("20 %", MinOverlap(0.0, 0.2)),
        ("100%", MinOverlap(0.0, 1.0)),
        ("101%", None),
        ("-1", None),
        ("a fifth", None),
        ("", None),
    ],
)
def test_overlap_is_parsed(text: str, overlap: MinOverlap | None):
    assert parse_overlap(text) == overlap


def test_unusable_window_settings_raise():
    with pytest.raises(ConfigError, match=r"expected seconds such as 0\.25, or a percentage"):
        WindowConfig(min_overlap="half")
    with pytest.raises(ConfigError, match=r"more than --window 5; a percentage is written as 50%"):
        WindowConfig(min_overlap="50", window=5.0)
    with pytest.raises(ConfigError, match=r"--hop 2\.5 needs --window"):
        WindowConfig(hop=2.5)


def test_window_has_its_part_of_the_file_size():
    clips = pd.DataFrame(
        {
            "path": ["a", "a", "b"],
            "start": [0.0, 15.0, 0.0],
            "end": [5.0, 20.0, 5.0],
            "size": [4_000_000, 4_000_000, -1],
        }
    )
    assert window_sizes(clips)["size"].tolist() == [1_000_000, 1_000_000, 0]
