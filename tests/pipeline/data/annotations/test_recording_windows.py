"""Manifest of windows: labels, groups, background, and recordings that cannot be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from pipeline.data.manifest import Manifest, ManifestConfig, cut_windows, read_manifest
from pipeline.io.errors import UserError
from tests.helpers.annotated import write_recording
from tests.helpers.sounds import RATE


def cut(data: Path, seed: int = 0, **settings: object) -> Manifest:
    config = ManifestConfig(**{"annotations": "auto", "window": 2.0, "hop": 1.0} | settings)
    return cut_windows(read_manifest(data, config), config, seed)


def rows(clips: pd.DataFrame, *columns: str) -> list[tuple]:
    return list(clips[list(columns)].itertuples(index=False, name=None))


def test_windows_have_times_labels_and_group(tmp_path: Path):
    write_recording(tmp_path / "site/a.wav", 5.0, [(0.5, 1.5, "tone 0"), (1.0, 2.5, "tone 1")])
    manifest = cut(tmp_path)
    assert rows(manifest.clips, "clip_id", "label", "start", "end") == [
        ("site/a.wav@000000.000", "tone 0;tone 1", 0.0, 2.0),
        ("site/a.wav@000001.000", "tone 0;tone 1", 1.0, 3.0),
        ("site/a.wav@000002.000", "tone 1", 2.0, 4.0),
        ("site/a.wav@000003.000", "", 3.0, 5.0),
    ]
    assert manifest.clips["group"].unique().tolist() == ["site/a.wav"]
    assert manifest.clips["path"].unique().tolist() == [str(tmp_path / "site/a.wav")]
    assert manifest.class_counts == {"tone 0": 2, "tone 1": 3}
    assert manifest.summary == "4 windows of 1 recording: 3 with events, 1 of 1 without"
    assert manifest.clips["start"].dtype == manifest.clips["end"].dtype == np.float64


@pytest.mark.parametrize(("ratio", "count"), [(0.0, 0), (0.5, 2), (1.0, 4), (100.0, 34)])
def test_background_is_limited_by_ratio(ratio: float, count: int, tmp_path: Path):
    for name in "ab":
        write_recording(tmp_path / f"{name}.wav", 20.0, [(5.2, 5.8, "tone 0")])
    clips = cut(tmp_path, background_ratio=ratio).clips
    background = clips[clips["label"] == ""]
    assert len(clips) - len(background) == 4 and len(background) == count
    assert background.groupby("group").size().tolist() in ([], [count // 2] * 2)
    assert rows(clips, "clip_id") == rows(cut(tmp_path, background_ratio=ratio).clips, "clip_id")


def test_seed_chooses_other_background_but_same_events(tmp_path: Path):
    write_recording(tmp_path / "a.wav", 60.0, [(5.2, 5.8, "tone 0")])
    first, second = cut(tmp_path, 1).clips, cut(tmp_path, 2).clips
    assert set(first["clip_id"]) != set(second["clip_id"])
    events = [set(clips["clip_id"][clips["label"] != ""]) for clips in (first, second)]
    assert events[0] == events[1]


def test_unreadable_recording_has_one_window(tmp_path: Path):
    write_recording(tmp_path / "a.wav", 4.0, [(0.5, 1.5, "tone 0")])
    (tmp_path / "b.wav").write_text("not audio")
    (tmp_path / "b.txt").write_text("0.5\t1.5\ttone 0\n")
    clips = cut(tmp_path).clips
    assert rows(clips[clips["group"] == "b.wav"], "clip_id", "label") == [("b.wav@000000.000", "")]


def test_events_beyond_the_end_are_reported(tmp_path: Path):
    write_recording(tmp_path / "a.wav", 4.0, [(0.5, 1.5, "tone 0")])
    with (tmp_path / "a.txt").open("a") as file:
        file.write("70\t80\ttone 1\n")
    outside, missing = cut(tmp_path).warnings[-2:]
    assert "1 event outside of the recording, in annotations of 'a.wav'" in outside
    assert missing == "no window has an event of 'tone 1', left out"


def test_events_in_no_window_are_reported(tmp_path: Path):
    # Windows from 0 to 1 and from 3 to 4 s; the second event is between them, 0.1 s of the third in one.
    write_recording(
        tmp_path / "a.wav", 6.0, [(0.5, 0.9, "tone 0"), (1.5, 2.5, "tone 0"), (3.9, 5.0, "tone 0")]
    )
    manifest = cut(tmp_path, window=1.0, hop=3.0, background_ratio=0.0)
    assert rows(manifest.clips, "clip_id", "label") == [("a.wav@000000.000", "tone 0")]
    text = "2 events in no window with --min-overlap 0.25, left out, in 'a.wav'; a --hop of less than 3 has"
    assert any(text in warning for warning in manifest.warnings)


def test_recordings_without_usable_event_raise(tmp_path: Path):
    write_recording(tmp_path / "a.wav", 4.0, [])
    with pytest.raises(UserError, match="no window of a readable recording has an annotated event"):
        cut(tmp_path)


def test_events_without_any_class_name_the_flag(tmp_path: Path):
    write_recording(tmp_path / "a.wav", 5.0, [])
    (tmp_path / "a.txt").write_text("0.5\t1.5\t\n2\t2.5\t\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"none of 2 annotated events has a class; .* by --label-column"):
        cut(tmp_path)


def test_class_folders_label_all_windows(tmp_path: Path):
    for name, seconds in (("dog/a.wav", 5.0), ("rain;wind/b.wav", 1.0)):
        (tmp_path / name).parent.mkdir()
        soundfile.write(tmp_path / name, np.full(round(seconds * RATE), 0.1), RATE)
    manifest = cut(tmp_path, annotations=None)
    assert rows(manifest.clips, "clip_id", "label") == [
        ("dog/a.wav@000000.000", "dog"),
        ("dog/a.wav@000001.000", "dog"),
        ("dog/a.wav@000002.000", "dog"),
        ("dog/a.wav@000003.000", "dog"),
        ("rain;wind/b.wav@000000.000", "rain;wind"),
    ]
    assert not manifest.multi_label and manifest.class_names == ["dog", "rain;wind"]


def test_table_gives_fold_and_group_to_windows(tmp_path: Path):
    write_recording(tmp_path / "a.wav", 3.0, [])
    (tmp_path / "clips.csv").write_text("path,label,start,end,fold,group\na.wav,dog,0,3,2,site\n")
    clips = cut(tmp_path / "clips.csv", annotations=None).clips
    assert rows(clips, "label", "fold", "group") == [("dog", 2, "site")] * 2


def test_whole_files_of_table_label_all_windows(tmp_path: Path):
    write_recording(tmp_path / "a.wav", 4.3, [])
    write_recording(tmp_path / "b.wav", 4.0, [])
    (tmp_path / "clips.csv").write_text("path,label\na.wav,dog;cat\nb.wav,\n")
    clips = cut(tmp_path / "clips.csv", annotations=None, multi_label=True).clips
    assert clips["label"].tolist() == ["cat;dog"] * 4 + [""] * 3


def test_windows_longer_than_recordings_have_a_warning(tmp_path: Path):
    for number in range(3):
        write_recording(tmp_path / f"{number}.wav", 5.0, [(0.5, 1.5, "tone 0")])
    assert cut(tmp_path, window=12.0, hop=12.0).warnings[-1] == (
        "most recordings are shorter than half of --window 12 (median 5 s); "
        "their windows are padded with silence"
    )
    assert not any("shorter" in warning for warning in cut(tmp_path, window=10.0, hop=10.0).warnings)
