"""Recordings by names and paths in tables from elsewhere: found only if a single one fits."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.data.annotations.recording_names import RecordingNames
from pipeline.data.manifest import ManifestConfig, read_manifest
from pipeline.io.errors import UserError
from tests.pipeline.data.test_manifest import touch

BIRDNET = (
    "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tCommon Name\tBegin Path\tFile Offset (s)\n"
    "1\tSpectrogram 1\t1\t0\t3\tBlue Jay\tC:\\rec\\site 1\\a.WAV\t0\n"
    "2\tSpectrogram 1\t1\t13\t16\tRobin\tC:\\rec\\site 2\\a.WAV\t3\n"
)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a.wav", "a.wav"),  # as it is, though another one has the same name
        ("b.wav", "x/b.wav"),
        ("B.WAV", "x/b.wav"),
        ("x\\a.wav", "x\\a.wav"),
        ("C:\\y\\x\\b.wav", "x/b.wav"),
        ("/y/x/b.wav", "x/b.wav"),
        ("//server/share/x/b.wav", "x/b.wav"),
        ("/y/z/b.wav", "/y/z/b.wav"),  # in another folder
        ("z/a.wav", "z/a.wav"),
        ("none.wav", "none.wav"),
        ("", ""),
    ],
)
def test_name_is_that_of_the_only_recording_that_fits(name: str, path: str, tmp_path: Path):
    touch(tmp_path, "a.wav", "x/a.wav", "x/b.wav")
    assert RecordingNames("--annotations t.txt", tmp_path).path_of(name) == path


def test_name_of_several_recordings_is_refused(tmp_path: Path):
    touch(tmp_path, "x/a.wav", "y/a.wav")
    with pytest.raises(
        UserError, match=r"t\.txt: 'a\.wav' can be 'x/a\.wav' or 'y/a\.wav'; write such paths"
    ):
        RecordingNames("--annotations t.txt", tmp_path).path_of("a.wav")


def test_two_names_of_one_recording_are_refused(tmp_path: Path):
    touch(tmp_path, "a.wav")
    names = RecordingNames("--annotations t.txt", tmp_path)
    assert names.path_of("/x/a.wav") == names.path_of("/X/a.wav") == "a.wav"
    with pytest.raises(
        UserError, match=r"'/x/a\.wav' and '/y/a\.wav' would both be 'a\.wav'; write paths below"
    ):
        names.path_of("/y/a.wav")


def test_birdnet_table_of_another_computer_is_read(tmp_path: Path):
    touch(tmp_path, "audio/site 1/a.wav", "audio/site 2/a.wav")
    (tmp_path / "all.txt").write_text(BIRDNET, encoding="utf-8")
    config = ManifestConfig(annotations=tmp_path / "all.txt", window=3.0)
    assert read_manifest(tmp_path / "audio", config).events == {
        "site 1/a.wav": [(0.0, 3.0, "Blue Jay")],
        "site 2/a.wav": [(3.0, 6.0, "Robin")],
    }


def test_annotations_without_times_have_a_warning(tmp_path: Path):
    touch(tmp_path, "a.wav", "b.wav")
    (tmp_path / "all.csv").write_text("path,label\na.wav,dog\nb.wav,cat\n", encoding="utf-8")
    manifest = read_manifest(tmp_path, ManifestConfig(annotations=tmp_path / "all.csv", window=3.0))
    assert any("no columns of times such as start,end: all windows" in text for text in manifest.warnings)
    (tmp_path / "all.csv").write_text("path,label,start,end\na.wav,dog,1,2\n", encoding="utf-8")
    manifest = read_manifest(tmp_path, ManifestConfig(annotations=tmp_path / "all.csv", window=3.0))
    assert not any("no columns of times" in text for text in manifest.warnings)


def test_recordings_without_a_row_are_named(tmp_path: Path):
    touch(tmp_path, "a.wav", "x/b.wav", "c.wav")
    table = tmp_path / "all.csv"
    table.write_text("path,label,start,end\na.wav,dog,1,2\nc.wav,,,\n", encoding="utf-8")
    manifest = read_manifest(tmp_path, ManifestConfig(annotations=table, window=3.0))
    assert manifest.events == {"a.wav": [(1.0, 2.0, "dog")], "c.wav": []}
    assert "1 audio file without a row in all.csv, left out: 'x/b.wav'" in manifest.warnings
