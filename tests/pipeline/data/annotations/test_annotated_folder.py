"""Annotation files next to recordings or in a folder: which belongs to which, and what is reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.data.manifest import Manifest, ManifestConfig, read_manifest
from pipeline.io.errors import UserError
from tests.pipeline.data.test_manifest import labels, touch


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def read(data: Path, annotations: Path | str = "auto") -> Manifest:
    return read_manifest(data, ManifestConfig(annotations=annotations, window=5.0))


DOG, CAT = "1\t2\tdog\n", "3\t4\tcat\n"


def test_files_next_to_audio_belong_to_longest_name(tmp_path: Path):
    touch(tmp_path, "a.wav", "a.1.wav", "a.1.2.wav", "site/Ä b.FLAC", "site/c.ogg")
    write(
        tmp_path,
        {
            "a.txt": DOG,
            "a.1.Table.1.selections.txt": CAT,
            "a.1.2.txt": DOG + CAT,
            "site/ä B.BirdNET.selection.table.txt": DOG,
            "site/c.ogg.txt": CAT,
        },
    )
    manifest = read(tmp_path)
    assert labels(manifest) == {
        "a.1.2.wav": "cat;dog",
        "a.1.wav": "cat",
        "a.wav": "dog",
        "site/c.ogg": "cat",
        "site/Ä b.FLAC": "dog",
    }
    assert manifest.multi_label and manifest.class_counts == {"cat": 3, "dog": 3}
    assert manifest.events is not None and manifest.events["a.1.wav"] == [(3.0, 4.0, "cat")]


def test_files_behind_links_to_folders_are_found(tmp_path: Path):
    data, disk = tmp_path / "data", tmp_path / "disk"
    touch(disk, "site 1/a.wav", "b.wav")
    touch(data, "site 2/a.wav")
    write(disk, {"site 1/a.txt": DOG, "b.txt": CAT})
    write(data, {"site 2/a.txt": CAT})
    (data / "linked").symlink_to(disk)
    (disk / "loop").symlink_to(disk)
    (data / "parent").symlink_to(tmp_path)
    manifest = read(data)
    assert labels(manifest) == {"linked/b.wav": "cat", "linked/site 1/a.wav": "dog", "site 2/a.wav": "cat"}


def test_files_in_a_folder_are_found(tmp_path: Path):
    touch(tmp_path / "data", "x/a.wav", "y/a.wav", "y/b.wav")
    write(tmp_path / "tables", {"x/a.txt": DOG, "y/a.txt": CAT, "flat/b.txt": DOG})
    assert labels(read(tmp_path / "data", tmp_path / "tables")) == {
        "x/a.wav": "dog",
        "y/a.wav": "cat",
        "y/b.wav": "dog",
    }


def test_ambiguous_file_raises(tmp_path: Path):
    touch(tmp_path / "data", "x/a.wav", "y/a.wav")
    write(tmp_path / "tables", {"a.txt": DOG})
    with pytest.raises(UserError, match=r"'a\.txt' can belong to 'x/a\.wav' or 'y/a\.wav'; rename it"):
        read(tmp_path / "data", tmp_path / "tables")
    touch(tmp_path / "same", "a.wav", "a.flac")
    write(tmp_path / "same", {"a.txt": DOG})
    with pytest.raises(UserError, match=r"'a\.txt' can belong to .* rename it 'a\.flac\.txt'"):
        read(tmp_path / "same")


def test_missing_and_superfluous_files_are_reported(tmp_path: Path):
    touch(tmp_path, "a.wav", "b.wav", "c.wav", "d.xyz", "e.wma")
    write(tmp_path, {"a.txt": DOG, "b.txt": "", "gone.txt": CAT, "a.Table.2.txt": CAT})
    manifest = read(tmp_path)
    assert labels(manifest) == {"a.wav": "cat;dog", "b.wav": ""}
    text = "\n".join(manifest.warnings)
    assert "1 of 3 recordings have no annotation file and are left out: 'c.wav'" in text
    assert "1 text file named like no recording, ignored: 'gone.txt'" in text
    assert "1 recording with several annotation files, whose events are combined" in text
    assert "ignoring 1 file in unsupported formats (.wma: 1)" in text
    assert "ignoring 1 file without audio (.xyz: 1)" in text


def test_folder_without_annotations_names_the_expected_file(tmp_path: Path):
    touch(tmp_path, "site/a.wav")
    with pytest.raises(UserError, match=r"none of 1 recording .* would be named 'site/a\.txt'"):
        read(tmp_path)
    with pytest.raises(UserError, match=r"no such folder or CSV file"):
        read(tmp_path, tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no audio files found; expected recordings"):
        read(tmp_path / "empty")


def test_annotations_without_window_need_multi_label(tmp_path: Path):
    touch(tmp_path, "a.wav")
    write(tmp_path, {"a.txt": DOG + CAT})
    with pytest.raises(UserError, match=r"if annotation files are next to .*, add --annotations auto"):
        read_manifest(tmp_path, ManifestConfig(window=5.0))
    with pytest.raises(UserError, match=r"--annotations auto needs --window"):
        read_manifest(tmp_path, ManifestConfig(annotations="auto"))
    manifest = read_manifest(tmp_path, ManifestConfig(annotations="auto", multi_label=True))
    assert labels(manifest) == {"a.wav": "cat;dog"}


def test_table_with_events_of_a_folder_is_read(tmp_path: Path):
    touch(tmp_path / "data", "site/a.wav", "b.wav")
    write(tmp_path, {"events.csv": "path,label,start,end\nsite/a.wav,dog,1,2\nsite/a.wav,cat,3,4\n"})
    assert labels(read(tmp_path / "data", tmp_path / "events.csv")) == {"site/a.wav": "cat;dog"}


@pytest.mark.parametrize("form", ["next to the recordings", "folder", "table of names"])
def test_recordings_in_folders_of_other_splits_are_left_out(form: str, tmp_path: Path):
    names = ["x/train/a", "x/test/b", "y/train/c", "y/val/d"]
    touch(tmp_path / "data", *(f"{name}.wav" for name in names))
    annotations: Path | str = "auto"
    if form == "table of names":
        rows = "".join(f"{name[-1]}.wav,1,2,dog\n" for name in names)
        write(tmp_path, {"events.csv": f"Begin File,start,end,label\n{rows}"})
        annotations = tmp_path / "events.csv"
    else:
        folder = tmp_path / ("data" if form == "next to the recordings" else "truth")
        write(folder, {f"{name}.txt": DOG for name in names})
        annotations = "auto" if form == "next to the recordings" else folder
    manifest = read(tmp_path / "data", annotations)
    assert labels(manifest) == {"x/train/a.wav": "dog", "y/train/c.wav": "dog"}
    unit = "rows" if form == "table of names" else "recordings"
    assert any(warning.startswith(f"ignoring 2 {unit} ") for warning in manifest.warnings)


def test_annotations_of_a_table_raise(tmp_path: Path):
    touch(tmp_path, "a.wav")
    write(tmp_path, {"clips.csv": "path,label\na.wav,dog\n"})
    with pytest.raises(
        UserError, match="is a table of clips, but --annotations needs a folder of recordings"
    ):
        read(tmp_path / "clips.csv")


def test_annotations_next_to_class_folders_have_a_warning(tmp_path: Path):
    touch(tmp_path, "site 1/a.wav", "site 2/b.wav", "site 2/c.wav")
    write(tmp_path, {"site 1/a.txt": DOG, "site 2/b.Table.1.selections.txt": CAT, "site 2/readme.txt": ""})
    warning = (
        "files named like annotations of 2 of 3 recordings are not read: "
        "'site 1/a.txt', 'site 2/b.Table.1.selections.txt'; "
        "--annotations auto takes classes from these, not from folders"
    )
    assert warning in read_manifest(tmp_path, ManifestConfig(window=5.0)).warnings
    assert warning not in read_manifest(tmp_path, ManifestConfig()).warnings
