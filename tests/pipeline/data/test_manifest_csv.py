"""Manifests from CSV files, as written by hand or by spreadsheets; errors name the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.data.manifest import NO_FOLD, read_manifest
from pipeline.io.errors import UserError
from tests.pipeline.data.test_manifest import touch


def write_csv(root: Path, text: str, encoding: str = "utf-8") -> Path:
    path = root / "clips.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_csv_columns_give_paths_labels_folds_groups(tmp_path: Path):
    touch(tmp_path, "x/1.wav", "x/ü 2.wav")
    lines = [
        "path,label,fold,group,more",
        "x/1.wav,dog,3,rec 1,!",
        '"x/ü 2.wav",rain,,,',
        f"{tmp_path}/x/1.wav,rain,0,rec 1,",
        "",
    ]
    clips = read_manifest(write_csv(tmp_path, "\n".join(lines))).clips
    assert clips["clip_id"].tolist() == [f"{tmp_path}/x/1.wav", "x/1.wav", "x/ü 2.wav"]
    assert clips["label"].tolist() == ["rain", "dog", "rain"]
    assert clips["fold"].tolist() == [0, 3, NO_FOLD]
    assert clips["group"].tolist() == ["rec 1", "rec 1", "x/ü 2.wav"]
    assert clips["path"].tolist() == [f"{tmp_path}/x/1.wav", f"{tmp_path}/x/1.wav", f"{tmp_path}/x/ü 2.wav"]


@pytest.mark.parametrize(("encoding", "end"), [("utf-8-sig", "\n"), ("utf-8", "\r\n"), ("utf-8-sig", "\r\n")])
def test_csv_of_spreadsheets_is_read(encoding: str, end: str, tmp_path: Path):
    path = write_csv(tmp_path, end.join(["label,path", "dög,1.wav", "rain,2.wav", ""]), encoding)
    assert read_manifest(path).clips["label"].tolist() == ["dög", "rain"]


def test_missing_file_is_kept_without_size(tmp_path: Path):
    touch(tmp_path, "1.wav")
    clips = read_manifest(write_csv(tmp_path, "path,label\n1.wav,dog\n2.wav,rain\nnul\0.wav,rain\n")).clips
    assert clips["size"].tolist() == [5, -1, -1]
    assert clips["mtime_ns"].tolist()[1:] == [0, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,fold\n1.wav,1\n", "no column 'label'; the first line must be path,label"),
        ("file,label\n1.wav,dog\n", "no column 'path'"),
        ("", "no column 'path'"),
        ("path,label\n", "no audio files found"),
        ("path,label\n1.wav,dog\n,rain\n", "line 3: path is empty"),
        ("path,label\n1.wav,\n", "line 2: label is empty"),
        ("path,label\n1.wav\n", "line 2: label is empty"),
        ("path,label,fold\n1.wav,dog,one\n", "line 2: fold 'one' is not an integer"),
        ("path,label,fold\n1.wav,dog,1.5\n", "line 2: fold '1.5' is not an integer"),
        ("path,label,fold\n1.wav,dog,99999999999\n", "line 2: fold '99999999999' is not an integer"),
        ("path,label\n1.wav,dog\n1.wav,rain\n2.wav,dog\n", "1 duplicate paths, e.g. '1.wav'"),
        ("path,label\n1.wav,dog\n./1.wav,dog\n", "1 duplicate paths, e.g. '1.wav'"),
        ("path,label\n" + "x" * 200_000 + ",dog\n", "not a CSV"),
    ],
)
def test_invalid_csv_raises(text: str, message: str, tmp_path: Path):
    with pytest.raises(UserError, match=message):
        read_manifest(write_csv(tmp_path, text))


def test_csv_not_utf8_raises(tmp_path: Path):
    with pytest.raises(UserError, match="not UTF-8 text"):
        read_manifest(write_csv(tmp_path, "path,label\n1.wav,Hündin\n", "latin-1"))
