"""Which files count as recordings, by ending or content."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from pipeline.audio import file_types
from pipeline.audio.file_types import (
    FileKind,
    is_audio,
    is_audio_header,
    kind_by_content,
    kind_by_name,
    read_header,
    unsupported_reason,
)
from tests.helpers.audio_formats import write_valid_files

WAV_HEADER = b"RIFF\x24\0\0\0WAVEfmt "
M4A_HEADER = b"\0\0\0\x20ftypM4A \0\0\0\0"


@pytest.fixture(autouse=True)
def without_av(monkeypatch: pytest.MonkeyPatch) -> None:
    """Test what holds where the optional PyAV is not installed."""
    monkeypatch.setattr(file_types, "has_av", lambda: False)


def test_is_audio_checks_the_ending():
    assert all(map(is_audio, ("a.wav", "b/A.FLAC", "x.y.mp3", "ü b.Ogg", "a.aiff", "a.opus", "a.m.wav")))
    assert not any(
        map(is_audio, (".a.wav", ".wav", "wav", "b/mp3", "a.txt", "a.wav.csv", "a.", "wav/a", "a.m4a", ""))
    )


@pytest.mark.parametrize(
    ("name", "header", "kind"),
    [
        ("a.wav", b"", FileKind.AUDIO),
        ("a.WAV", b"", FileKind.AUDIO),
        ("a", WAV_HEADER, FileKind.AUDIO),
        ("a.tmp", WAV_HEADER, FileKind.AUDIO),
        ("a.wav.1", WAV_HEADER, FileKind.AUDIO),
        ("a.m4a", WAV_HEADER, FileKind.AUDIO),
        ("rec 2024-05-01", b"fLaC", FileKind.AUDIO),
        ("a.m4a", M4A_HEADER, FileKind.UNSUPPORTED),
        ("a.AMR", b"", FileKind.UNSUPPORTED),
        ("a.dat", M4A_HEADER, FileKind.UNSUPPORTED),
        ("a.dat", b"#!AMR\n", FileKind.UNSUPPORTED),
        ("a", b"", FileKind.UNSUPPORTED),
        ("rec 2024-05-01", b"x", FileKind.UNSUPPORTED),
        ("a.dat", b"\0\1\2\3", FileKind.UNKNOWN),
        ("clips.zip", b"PK\3\4", FileKind.UNKNOWN),
        ("notes.txt", WAV_HEADER, FileKind.OTHER),
        ("labels.CSV", b"", FileKind.OTHER),
        ("README", b"", FileKind.OTHER),
        ("Thumbs.db", b"", FileKind.OTHER),
        (".DS_Store", WAV_HEADER, FileKind.OTHER),
        ("b/._a.wav", WAV_HEADER, FileKind.OTHER),
    ],
)
def test_kind_follows_ending_then_content(name: str, header: bytes, kind: FileKind):
    assert (kind_by_name(name) or kind_by_content(name, header)) is kind


@pytest.mark.parametrize("name", ["a.wav", "a.txt", ".a", "LICENSE"])
def test_known_endings_need_no_content(name: str):
    assert kind_by_name(name) is not None


def test_header_of_every_supported_file_is_recognized(tmp_path: Path):
    for path in write_valid_files(tmp_path):
        header = read_header(str(path))
        if path.suffix.lower() in (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".au", ".caf", ".w64", ".rf64"):
            assert is_audio_header(header), path.name


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"\xff\xfep\0a\0t\0h\0",
        b"\xff\xf1P\x80",
        b"\xff\xd8\xff\xe0",
        b"RIFF\0\0\0\0WEBP",
        b"FORM\0\0\0\0ILBM",
    ],
)
def test_header_of_other_content_is_not_audio(header: bytes):
    assert not is_audio_header(header)


def test_unsupported_reason_names_ending_and_fix(tmp_path: Path):
    def reason(name: str, content: bytes) -> str | None:
        (tmp_path / name).write_bytes(content)
        return unsupported_reason(str(tmp_path / name))

    assert reason("a.m4a", M4A_HEADER) == (
        "unsupported format '.m4a'; `pip install 'melray[av]'` to read it, "
        "or convert it, e.g. `ffmpeg -i x.m4a x.wav`"
    )
    assert reason("a.aax", M4A_HEADER) == (
        "unsupported format '.aax'; convert it, e.g. `ffmpeg -i x.aax x.wav`"
    )
    assert "no ending" in str(reason("a", b"text"))
    for name, content in (("b.wav", b"x"), ("b.m4a", WAV_HEADER), ("b", WAV_HEADER), ("c.m4a", b"")):
        assert reason(name, content) is None
    (tmp_path / "table.csv").write_text("path,label\n", encoding="utf-8")
    assert unsupported_reason(str(tmp_path / "table.csv")) == "not an audio file (.csv)"
    assert unsupported_reason(str(tmp_path / "missing.m4a")) is None


def test_files_for_av_are_audio_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(file_types, "has_av", lambda: True)
    assert all(map(is_audio, ("a.m4a", "b/A.WEBM", "x.aac", "x.mp4", "x.wma", "x.amr")))
    assert not any(map(is_audio, ("a.aax", ".a.m4a", "a.txt")))
    assert kind_by_content("a", M4A_HEADER) is FileKind.AUDIO
    (tmp_path / "a.m4a").write_bytes(M4A_HEADER)
    assert unsupported_reason(str(tmp_path / "a.m4a")) is None


def test_folder_named_av_is_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "av").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "av", raising=False)
    assert not file_types.has_av()


def test_header_of_named_pipe_is_not_read(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    assert read_header(str(tmp_path / "pipe")) == b""
