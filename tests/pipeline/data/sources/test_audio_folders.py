"""Recordings below folders: links, hidden and unreadable folders, formats, and unusual names."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from pipeline.data.manifest import Manifest, read_manifest
from pipeline.data.unlabeled import read_unlabeled
from pipeline.io.errors import UserError
from pipeline.io.folder_tree import LocalTree
from tests.pipeline.data.test_manifest import touch

WAV = b"RIFF\x24\0\0\0WAVEfmt "
COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "Café") for form in ("NFC", "NFD"))


def ids(manifest: Manifest) -> list[str]:
    return manifest.clips["clip_id"].tolist()


def link(root: Path, name: str, target: str) -> None:
    (root / name).symlink_to(target, target_is_directory=True)


def test_links_between_classes_are_not_followed(tmp_path: Path):
    touch(tmp_path, "dog/1.wav", "dog/2.wav", "rain/1.wav", "rain/2.wav")
    link(tmp_path, "dog/x", "../rain")
    link(tmp_path, "rain/y", "../dog")
    manifest = read_manifest(tmp_path)
    assert ids(manifest) == ["dog/1.wav", "dog/2.wav", "rain/1.wav", "rain/2.wav"]
    (warning,) = manifest.warnings
    assert "read for another class: 'dog/x' ('rain'); 'rain/y' ('dog')" in warning


def test_circle_of_links_ends(tmp_path: Path):
    names = ["a/1.wav", "a/2.wav", "b/1.wav", "b/2.wav", "c/1.wav", "c/2.wav"]
    touch(tmp_path / "data", *names)
    for folder, target in (("a", "../b"), ("b", "../c"), ("c", "../a")):
        link(tmp_path / "data", f"{folder}/next", target)
        link(tmp_path / "data", f"{folder}/up", "..")
        link(tmp_path / "data", f"{folder}/up up", "../..")
    assert ids(read_manifest(tmp_path / "data")) == names
    assert ids(read_unlabeled(tmp_path / "data")) == names


def test_linked_folder_is_read_once_for_one_class(tmp_path: Path):
    touch(tmp_path, "data/dog/1.wav", "data/dog/2.wav", "elsewhere/deep/3.wav", "elsewhere/4.wav")
    link(tmp_path, "data/dog/again", "../../elsewhere/deep")
    link(tmp_path, "data/rain", "../elsewhere")
    manifest = read_manifest(tmp_path / "data")
    assert ids(manifest) == ["dog/1.wav", "dog/2.wav", "rain/4.wav", "rain/deep/3.wav"]
    assert "'dog/again' ('rain')" in manifest.warnings[0]


def test_link_into_hidden_folder_is_followed(tmp_path: Path):
    """As data version control does."""
    touch(tmp_path, ".store/1a/1.wav", ".store/1a/2.wav", "dog/1.wav", "dog/2.wav")
    link(tmp_path, "rain", ".store/1a")
    assert ids(read_manifest(tmp_path)) == ["dog/1.wav", "dog/2.wav", "rain/1.wav", "rain/2.wav"]


def test_unicode_forms_give_one_class(tmp_path: Path):
    touch(tmp_path, f"{COMPOSED}/1.wav", f"{DECOMPOSED}/{DECOMPOSED}.wav", "dog/1.wav", "dog/2.wav")
    manifest = read_manifest(tmp_path)
    assert manifest.class_names == [COMPOSED, "dog"]
    assert ids(manifest)[:2] == [f"{COMPOSED}/1.wav", f"{COMPOSED}/{COMPOSED}.wav"]
    assert all(os.path.exists(path) for path in manifest.clips["path"])
    touch(tmp_path, f"{DECOMPOSED}/1.wav")
    with pytest.raises(UserError, match=r"\\xe9/1.wav'.* have the same id .* differ only in Unicode form"):
        read_manifest(tmp_path)


def test_unsupported_formats_are_counted_and_named(tmp_path: Path):
    touch(
        tmp_path,
        "dog/1.wav",
        "dog/2.wav",
        "dog/3.m4a",
        "dog/4.M4A",
        "rain/5.amr",
        "rain/6",
        "rain/readme.txt",
    )
    (tmp_path / "rain/7").write_bytes(WAV)
    (tmp_path / "rain/8.tmp").write_bytes(WAV)
    (tmp_path / "rain/9.dat").write_bytes(b"\0\1")
    manifest = read_manifest(tmp_path)
    assert ids(manifest) == ["dog/1.wav", "dog/2.wav", "rain/7", "rain/8.tmp"]
    assert manifest.warnings == [
        "ignoring 4 files in unsupported formats (.m4a: 2, no ending: 1, .amr: 1); "
        "`pip install 'melray[av]'` to read them, or convert them, e.g. `ffmpeg -i x.m4a x.wav`",
        "ignoring 1 file without audio (.dat: 1)",
    ]


def test_every_test_recording_is_a_clip(tmp_path: Path):
    names = ["1.wav", "2.m4a", "3.AMR", "4", "a/5.webm"]
    touch(tmp_path, *names, "README", "labels.csv", ".DS_Store", "._1.wav", "Thumbs.db", "a/.x/6.wav")
    manifest = read_unlabeled(tmp_path)
    assert ids(manifest) == names
    assert manifest.warnings[0].startswith("cannot read 4 files in unsupported formats (")
    assert manifest.warnings[1:] == ["ignoring hidden folders with recordings: 'a/.x'"]


def test_only_unsupported_formats_raise_with_fix(tmp_path: Path):
    with pytest.raises(
        UserError, match=r"no audio files found.*\(\.m4a: 2\); .*convert them, e\.g\. `ffmpeg"
    ):
        read_manifest(touch(tmp_path, "dog/1.m4a", "rain/2.m4a"))


def test_unreadable_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    touch(tmp_path, "dog/1.wav", "dog/2.wav", "dog/private/3.wav", "rain/1.wav", "rain/2.wav")
    list_folder = LocalTree.list

    def list_or_fail(tree: LocalTree, folder: str) -> object:
        if folder.endswith("private") or folder == "rain":
            raise PermissionError(13, "Permission denied", folder)
        return list_folder(tree, folder)

    # Tests may run as root, to whom all folders are readable.
    monkeypatch.setattr(LocalTree, "list", list_or_fail)
    manifest = read_manifest(tmp_path)
    assert ids(manifest) == ["dog/1.wav", "dog/2.wav"]
    assert "cannot read folder 'rain' (Permission denied): its files are left out" in manifest.warnings
    assert "cannot read folder 'dog/private' (Permission denied): its files are left out" in manifest.warnings
    assert not any("empty class folder" in warning for warning in manifest.warnings)
    with pytest.raises(UserError, match=r"cannot read folder '.*' \(Permission denied\).*no prediction"):
        read_unlabeled(tmp_path)


def test_pipes_and_broken_links_do_not_block(tmp_path: Path):
    touch(tmp_path, "dog/1.wav", "dog/2.wav")
    os.mkfifo(tmp_path / "dog/pipe.wav")
    os.mkfifo(tmp_path / "dog/pipe")
    (tmp_path / "dog/broken.wav").symlink_to("missing.wav")
    (tmp_path / "dog/self.wav").symlink_to("self.wav")
    manifest = read_manifest(tmp_path)
    assert ids(manifest) == ["dog/1.wav", "dog/2.wav", "dog/broken.wav", "dog/self.wav"]
    assert manifest.clips["size"].tolist() == [9, 9, -1, -1]
    assert "ignoring devices, pipes or sockets: 'dog/pipe.wav'" in manifest.warnings


def test_broken_folder_links_are_reported(tmp_path: Path):
    touch(tmp_path, "dog/1.wav", "dog/2.wav", "cat/1.wav", "cat/2.wav")
    link(tmp_path, "dog/more", "/mnt/not mounted/dog")
    link(tmp_path, "rain", "/mnt/not mounted/rain")
    assert read_manifest(tmp_path).warnings == [
        "broken links: 'rain'; is a disk not mounted?",
        "broken links: 'dog/more'; is a disk not mounted?",
    ]


def test_unusual_names_keep_their_files(tmp_path: Path):
    names = [
        "dog/a\nb.wav",
        "dog/A.wav",
        "dog/a.wav",
        "dog/" + "x" * 251 + ".wav",
        "dog/ a ?#%20.wav",
        "dog/\x1b[1m.wav",
    ]
    clips = read_manifest(touch(tmp_path, *names, "rain/1.wav", "rain/2.wav")).clips
    assert clips["clip_id"].tolist() == sorted([*names, "rain/1.wav", "rain/2.wav"])
    assert all(os.path.exists(path) for path in clips["path"])


def test_names_not_utf8_raise_with_fix(tmp_path: Path):
    touch(tmp_path, "dog/1.wav")
    os.mkdir(os.fsencode(tmp_path) + b"/Dr\xfcck")
    with open(os.fsencode(tmp_path) + b"/Dr\xfcck/1.wav", "wb"):
        pass
    for read in (read_manifest, read_unlabeled):
        with pytest.raises(UserError, match="not valid UTF-8; rename it, or all with `convmv"):
            read(tmp_path)


@pytest.mark.parametrize(
    "names", [("Dog", "dog "), ("dog", "dog\u200b"), ("007", "7"), ("1", "1.0"), ("a  b", "a b")]
)
def test_classes_with_almost_the_same_name_are_reported(names: tuple[str, str], tmp_path: Path):
    (warning,) = read_manifest(touch(tmp_path, *(f"{name}/{i}.wav" for name in names for i in "12"))).warnings
    first, second = sorted(names)
    assert warning.startswith(f"classes {first!r}, {second!r} differ only in case, blanks, ")


def test_different_classes_are_not_reported_as_similar(tmp_path: Path):
    names = ("1", "10", "-1", "1.5", "2024-01-01", "a1", "a01")
    assert read_manifest(touch(tmp_path, *(f"{name}/{i}.wav" for name in names for i in "12"))).warnings == []
