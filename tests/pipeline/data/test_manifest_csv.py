"""A CSV of clips, as people and spreadsheets write it, and what is refused with the number of its line."""

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


def test_csv_gives_paths_labels_folds_and_groups(tmp_path: Path):
    touch(tmp_path, "x/1.wav", "x/ü 2.wav")
    text = f'path,label,fold,group,more\nx/1.wav,dog,3,rec 1,!\n"x/ü 2.wav",rain,,,\n{tmp_path}/x/1.wav,rain,0,rec 1,\n'
    clips = read_manifest(write_csv(tmp_path, text)).clips
    assert clips["clip_id"].tolist() == [f"{tmp_path}/x/1.wav", "x/1.wav", "x/ü 2.wav"]
    assert clips["label"].tolist() == ["rain", "dog", "rain"]
    assert clips["fold"].tolist() == [0, 3, NO_FOLD]
    assert clips["group"].tolist() == ["rec 1", "rec 1", "x/ü 2.wav"]
    assert clips["path"].tolist() == [f"{tmp_path}/x/1.wav", f"{tmp_path}/x/1.wav", f"{tmp_path}/x/ü 2.wav"]


@pytest.mark.parametrize(("encoding", "end"), [("utf-8-sig", "\n"), ("utf-8", "\r\n"), ("utf-8-sig", "\r\n")])
def test_csv_as_spreadsheets_write_it(encoding: str, end: str, tmp_path: Path):
    path = write_csv(tmp_path, end.join(["label,path", "dög,1.wav", "rain,2.wav", ""]), encoding)
    assert read_manifest(path).clips["label"].tolist() == ["dög", "rain"]


def test_a_missing_file_is_kept_for_extraction_to_reject(tmp_path: Path):
    touch(tmp_path, "1.wav")
    clips = read_manifest(write_csv(tmp_path, "path,label\n1.wav,dog\n2.wav,rain\nnul\0.wav,rain\n")).clips
    assert clips["size"].tolist() == [5, -1, -1]
    assert clips["mtime_ns"].tolist()[1:] == [0, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,fold\n1.wav,1\n", "no column 'label'; the first line must name path,label"),
        ("file,label\n1.wav,dog\n", "no column 'path'"),
        ("", "no column 'path'"),
        ("path,label\n", "no audio file in it"),
        ("path,label\n1.wav,dog\n,rain\n", "line 3: path is empty"),
        ("path,label\n1.wav,\n", "line 2: label is empty"),
        ("path,label\n1.wav\n", "line 2: label is empty"),
        ("path,label,fold\n1.wav,dog,one\n", "line 2: fold 'one' is not a whole number"),
        ("path,label,fold\n1.wav,dog,1.5\n", "line 2: fold '1.5' is not a whole number"),
        ("path,label,fold\n1.wav,dog,99999999999\n", "line 2: fold '99999999999' is not a whole number"),
        ("path,label\n1.wav,dog\n1.wav,rain\n2.wav,dog\n", "1 clips are named twice, the first '1.wav'"),
        ("path,label\n1.wav,dog\n./1.wav,dog\n", "1 clips are named twice, the first '1.wav'"),
        ("path,label\n" + "x" * 200_000 + ",dog\n", "not a CSV"),
    ],
)
def test_refused_csv(text: str, message: str, tmp_path: Path):
    with pytest.raises(UserError, match=message):
        read_manifest(write_csv(tmp_path, text))


def test_csv_that_is_no_text(tmp_path: Path):
    with pytest.raises(UserError, match="not UTF-8 text"):
        read_manifest(write_csv(tmp_path, "path,label\n1.wav,Hündin\n", "latin-1"))
