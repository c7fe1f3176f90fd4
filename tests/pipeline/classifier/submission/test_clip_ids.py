"""Ids as people write them find their clips, and never another one."""

from __future__ import annotations

import unicodedata

import pytest

from pipeline.classifier.submission.clip_ids import ClipIndex

IDS = ["b/2.wav", "a/1.wav", "a/2.flac", "c.d.wav", "007.WAV", "Café/x.wav", "no ending", "long.name.mp3"]
INDEX = ClipIndex(IDS, [f"/data/test/{clip_id}" for clip_id in IDS])


@pytest.mark.parametrize(
    ("text", "clip_id"),
    [
        # Path or file name, with or without extension.
        ("a/1.wav", "a/1.wav"),
        ("1.wav", "a/1.wav"),
        ("a/1", "a/1.wav"),
        ("1", "a/1.wav"),
        ("c.d", "c.d.wav"),
        ("no ending", "no ending"),
        # Windows, blanks, a leading dot.
        (r"a\1.wav", "a/1.wav"),
        (r".\a\1.wav", "a/1.wav"),
        (" ./a/1.wav ", "a/1.wav"),
        # Unicode forms.
        (unicodedata.normalize("NFD", "Café/x.wav"), "Café/x.wav"),
        # Case, leading zeros, another audio extension.
        ("A/1.WAV", "a/1.wav"),
        ("7", "007.WAV"),
        ("0007.wav", "007.WAV"),
        ("long.name.wav", "long.name.mp3"),
        # The audio folder's name in front.
        ("test/a/1.wav", "a/1.wav"),
        ("data/test/a/1", "a/1.wav"),
    ],
)
def test_id_in_another_form_finds_its_clip(text: str, clip_id: str):
    assert [IDS[position] for position in INDEX.find(text)] == [clip_id]


@pytest.mark.parametrize("text", ["", "3", "d", "x/1.wav", "train/a/1.wav", "a", "b/1.wav", "1.5"])
def test_id_of_no_clip_finds_none(text: str):
    assert INDEX.find(text) == []


def test_ambiguous_id_finds_all_clips():
    assert [IDS[position] for position in INDEX.find("2")] == ["b/2.wav", "a/2.flac"]
    assert len(ClipIndex(["1.wav", "01.wav"]).find("001.wav")) == 2


def test_exact_path_is_never_ambiguous():
    index = ClipIndex(["x/1.wav", "1.wav", "y/1.wav", "1", "01.wav"])
    assert [index.find(text) for text in ("1.wav", "1", "y/1.wav", "01")] == [[1], [3], [2], [4]]


def test_file_name_finds_clip_with_another_id():
    index = ClipIndex(["1", "2"], ["/test/2.wav", "/test/1.wav"])
    assert [index.find(text) for text in ("1", "2", "2.wav", "1.wav", "")] == [[0], [1], [0], [1], []]
    same_name = ClipIndex(["a/1.wav", "b/1.wav"], ["/test/a/1.wav", "/test/b/1.wav"])
    assert same_name.find("1.wav") == [0, 1]
