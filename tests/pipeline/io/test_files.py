"""Tests of portable, unique file names for labels."""

from __future__ import annotations

import errno
import itertools
import threading
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pipeline.io import files
from pipeline.io.files import (
    RESERVED_NAMES,
    create_text_atomically,
    file_names,
    write_atomically,
    write_text_atomically,
)
from tests.helpers.s3_server import s3_server

ODD = [
    "",
    " ",
    "dog\n",
    "a\x00b",
    "\udc80",
    *r". .. ... / // ../.. ..\.. /etc/passwd C:\dog ~ - con. a*?<>|:'b".split(),
]


def assert_valid_names(labels: list[str]) -> None:
    names = file_names(labels)
    assert list(names) == labels
    assert len({name.casefold() for name in names.values()}) == len(labels)
    for name in names.values():
        assert name == name.strip() != ""
        assert all(character.isalnum() or character in "_- " for character in name)


@pytest.mark.parametrize(
    "label",
    ["dog", "Dog Bark", "crackling fire", "sea-waves", "air_conditioner", "Hähnchen", "狗", "собака", "7"],
)
def test_file_names_valid_label_is_unchanged(label: str) -> None:
    assert file_names([label]) == {label: label}


def test_file_names_invalid_characters_become_underscores() -> None:
    assert file_names(["Dogs, barking (near)", "guitar/acoustic", "Mr. Fox's"]) == {
        "Dogs, barking (near)": "Dogs_ barking _near_",
        "guitar/acoustic": "guitar_acoustic",
        "Mr. Fox's": "Mr_ Fox_s",
    }


@pytest.mark.parametrize("label", ODD, ids=ascii)
def test_file_names_odd_label_stays_in_folder(label: str, tmp_path: Path) -> None:
    assert_valid_names([label])
    path = tmp_path / file_names([label])[label]
    assert path.resolve().parent == tmp_path.resolve()
    path.mkdir()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("label", ["CON", "con", "Nul", "aux", "PRN", "COM1", "lpt9", "con.", " nul "])
def test_file_names_devices_of_windows_are_avoided(label: str) -> None:
    assert_valid_names([label, "dog"])
    assert file_names([label])[label].casefold() not in RESERVED_NAMES


def test_file_names_odd_labels_are_unique() -> None:
    assert_valid_names(ODD)


@pytest.mark.parametrize(
    "labels",
    [
        ["dog", "Dog", "DOG", "dOg"],
        ["a", "A", "a_2", "A_2", "a_2_2"],
        ["a_2", "A", "a"],
        ["a/b", "a_b", "a.b", "a_b_2"],
        ["ß", "ss", "SS", "ẞ"],
        ["Å", "\u212b", "å"],
        ["x" * 100, "X" * 100, "x" * 80, "x" * 81, "x" * 100 + "y"],
    ],
    ids=lambda labels: labels[0][:5],
)
def test_file_names_are_unique_ignoring_case(labels: list[str]) -> None:
    for order in itertools.permutations(labels):
        assert_valid_names(list(order))


def test_file_names_random_labels_are_unique() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        characters = rng.choice(list("aA_2./ -"), size=(150, 5))
        assert_valid_names(list(dict.fromkeys("".join(row)[: rng.integers(1, 6)] for row in characters)))


def test_file_names_collision_numbers_the_second_label() -> None:
    assert file_names(["dog", "Dog"]) == {"dog": "dog", "Dog": "Dog_2"}
    assert file_names(["Dog", "dog"]) == {"Dog": "Dog", "dog": "dog_2"}


@pytest.mark.parametrize("character", ["x", "ä", "狗", "\U00020000"])
def test_file_names_long_label_can_be_written(character: str, tmp_path: Path) -> None:
    """Check names with a number, an extension and a temporary suffix: file systems allow 255 bytes."""
    labels = [character * 300, character * 301]
    assert_valid_names(labels)
    for name in file_names(labels).values():
        assert name.startswith(character * 10)
        write_atomically(tmp_path / f"{name}_10.wav", lambda file: file.write(b"sound"))
    assert len(list(tmp_path.iterdir())) == 2


def test_file_names_long_label_has_no_trailing_space() -> None:
    """Check truncation at a space: Windows and FAT drop trailing spaces, which could cause a collision."""
    assert_valid_names(["x" * 79 + " y", "x" * 79])


def test_file_names_decomposed_unicode_label_is_normalized() -> None:
    """Check labels in decomposed form, as written by macOS."""
    decomposed = unicodedata.normalize("NFD", "Türklingel")
    assert unicodedata.normalize("NFC", file_names([decomposed])[decomposed]) == "Türklingel"
    # File systems of macOS treat both forms as equal.
    hangul = ["개", unicodedata.normalize("NFD", "개")]
    assert len({unicodedata.normalize("NFC", name) for name in file_names(hangul).values()}) == 2


@pytest.mark.parametrize(
    ("number", "is_error"), [(errno.EINVAL, False), (errno.ENOTSUP, False), (errno.EIO, True)]
)
def test_file_system_without_fsync_is_supported(
    number: int, is_error: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(_: int) -> None:
        raise OSError(number, "fsync")

    monkeypatch.setattr("os.fsync", fsync)
    if is_error:
        with pytest.raises(OSError, match="fsync"):
            write_text_atomically(tmp_path / "a", "text")
        assert list(tmp_path.iterdir()) == []
    else:
        write_text_atomically(tmp_path / "a", "text")
        assert (tmp_path / "a").read_text() == "text"


def test_large_object_is_uploaded_from_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_MAX_MEMORY_BYTES", 1000)
    with s3_server() as server:
        folder = server.bucket()
        for size in (0, 1000, 1001, 300_000):
            content = np.random.default_rng(size).bytes(size)
            write_atomically(folder / "file", lambda file, content=content: file.write(content))
            assert (folder / "file").read_bytes() == content
        assert server.requests()["PUT"] == 4


def refuse_link(source: Path, target: Path) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


@pytest.mark.parametrize("has_links", [True, False], ids=["hard links", "no hard links"])
def test_one_of_many_creates_a_file(has_links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not has_links:
        monkeypatch.setattr(files.os, "link", refuse_link)
    barrier, path = threading.Barrier(8), tmp_path / "config.json"

    def create(text: str) -> bool:
        barrier.wait()
        return create_text_atomically(path, text)

    texts = [str(number) * 10_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        created = [text for text, is_new in zip(texts, pool.map(create, texts), strict=True) if is_new]
    assert created == [path.read_text()]
    assert list(tmp_path.iterdir()) == [path]


def test_file_in_a_store_without_conditional_writes_is_created_once() -> None:
    with s3_server() as server:
        server.configure(conditional_writes=False)
        path = server.bucket() / "config.json"
        assert create_text_atomically(path, "first") and not create_text_atomically(path, "second")
        assert path.read_text() == "first"
