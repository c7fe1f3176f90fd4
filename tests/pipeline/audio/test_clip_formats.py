"""Formats of clips: read from headers, and from ranges of long objects."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from pipeline.audio.clip_formats import MAX_LOCAL_CLIPS, read_formats, read_long_formats
from pipeline.audio.feature_defaults import ClipFormat
from tests.helpers.audio_formats import RATE, encode, sine
from tests.helpers.s3_server import S3Server
from tests.pipeline.audio.test_long_recordings import HOURS, write_sparse_wave


def manifest(*paths: str, size: int) -> pd.DataFrame:
    return pd.DataFrame({"path": paths, "size": size})


def test_formats_of_long_files_are_those_of_headers(tmp_path: Path):
    write_sparse_wave(tmp_path / "night.wav", "RF64")
    (tmp_path / "a.wav").write_bytes(encode(sine(seconds=2.0)))
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    clips = manifest(*(str(tmp_path / name) for name in ("night.wav", "a.wav", "broken.wav")), size=1)
    assert read_formats(clips) == [ClipFormat(48_000, 3600.0 * HOURS), ClipFormat(RATE, 2.0)]


def test_long_objects_are_not_fetched(server: S3Server, tmp_path: Path):
    write_sparse_wave(tmp_path / "night.wav", "RF64")
    bucket = server.bucket("long", tmp_path)
    server.reset()
    clips = manifest(str(bucket / "night.wav"), size=(tmp_path / "night.wav").stat().st_size)
    assert read_formats(clips) == [ClipFormat(48_000, 3600.0 * HOURS)]
    assert server.requests().total() <= 4


def test_small_objects_are_fetched_by_one_request(server: S3Server, tmp_path: Path):
    content = encode(sine(seconds=2.0))
    (tmp_path / "a.wav").write_bytes(content)
    bucket = server.bucket("short", tmp_path)
    server.reset()
    assert read_formats(manifest(str(bucket / "a.wav"), size=len(content))) == [ClipFormat(RATE, 2.0)]
    assert server.requests() == {"GET": 1}


def test_only_large_objects_may_be_long(server: S3Server, tmp_path: Path):
    write_sparse_wave(tmp_path / "night.wav", "RF64")
    (tmp_path / "a.wav").write_bytes(encode(sine(seconds=2.0)))
    bucket = server.bucket("mixed", tmp_path)
    sizes = {name: (tmp_path / name).stat().st_size for name in ("night.wav", "a.wav")}
    clips = pd.concat(manifest(str(bucket / name), size=sizes[name]) for name in ("night.wav", "a.wav"))
    server.reset()
    assert read_long_formats(clips[1:]) == []
    assert server.requests().total() == 0
    assert read_long_formats(clips[:1]) == [ClipFormat(48_000, 3600.0 * HOURS)]
    assert server.requests().total() <= 4
    # Files on disk next to them count as well.
    local = manifest(str(tmp_path / "a.wav"), size=sizes["a.wav"])
    assert read_long_formats(pd.concat([clips[1:], local])) == [ClipFormat(RATE, 2.0)]


def test_windows_of_a_recording_are_one_clip(tmp_path: Path):
    (tmp_path / "a.wav").write_bytes(encode(sine(seconds=2.0)))
    clips = manifest(*[str(tmp_path / "a.wav")] * (2 * MAX_LOCAL_CLIPS), size=1)
    assert read_formats(clips) == [ClipFormat(RATE, 2.0)]
