"""Clips in an object store: one request each, ahead of decoding, and errors that say whose they are."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.audio.clip_files import FetchedFile, clip_sources
from pipeline.audio.decode import AudioDecodeError
from pipeline.audio.features import load_clip
from pipeline.distributed.worker import CLIP_TIMEOUT_S
from pipeline.io import store_connections
from pipeline.io.errors import UserError
from pipeline.io.remote_path import RemotePath
from tests.helpers.audio_formats import encode, sine
from tests.helpers.s3_server import S3Server
from tests.helpers.sounds import SMALL_FEATURES

CONTENT = encode(sine(0.2))


@pytest.fixture
def bucket(server: S3Server, tmp_path: Path) -> Any:
    for number in range(40):
        (tmp_path / f"{number}.wav").write_bytes(CONTENT)
    path = server.bucket("clips", tmp_path)
    server.reset()
    return path


def clips_in(folder: Any, size: int = len(CONTENT)) -> list[dict[str, Any]]:
    return [{"path": str(folder / f"{number}.wav"), "size": size} for number in range(40)]


@pytest.mark.parametrize("size", [len(CONTENT), -1], ids=["known size", "unknown size"])
def test_clips_are_read_by_one_request_each(size: int, bucket: Any, server: S3Server) -> None:
    sources = list(clip_sources(clips_in(bucket, size)))
    samples = [load_clip(source, SMALL_FEATURES) for source in sources]
    assert all(np.array_equal(one, load_clip(CONTENT, SMALL_FEATURES)) for one in samples)
    assert server.requests() == {"GET": 40}


def test_clips_are_read_at_same_time(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    barrier, read = threading.Barrier(8, timeout=20), RemotePath.read_bytes

    def meet_and_read(path: RemotePath) -> bytes:
        barrier.wait()  # fails unless eight reads are active
        return read(path)

    monkeypatch.setattr(RemotePath, "read_bytes", meet_and_read)
    assert [source.read() for source in clip_sources(clips_in(bucket))] == [CONTENT] * 40  # type: ignore[union-attr]


def test_clips_are_read_when_due_after_crash(bucket: Any, server: S3Server) -> None:
    clips = clips_in(bucket)
    assert list(clip_sources(clips, ahead=False)) == [clip["path"] for clip in clips]
    assert server.requests() == {}


def test_local_clips_are_decoded_from_their_paths(tmp_path: Path) -> None:
    clips = clips_in(tmp_path)
    sources = clip_sources(clips)
    assert [next(sources) for _ in clips] == [clip["path"] for clip in clips]
    assert not [thread for thread in threading.enumerate() if "map_concurrently" in thread.name]


def test_missing_object_is_reason_of_its_clip(bucket: Any) -> None:
    path = str(bucket / "missing.wav")
    for source in (path, FetchedFile.fetch(path)):
        with pytest.raises(AudioDecodeError, match=r"^no such file$"):
            load_clip(source, SMALL_FEATURES)


def test_unsupported_object_is_named_without_another_request(bucket: Any, server: S3Server) -> None:
    (bucket / "clip.m4a").write_bytes(b"\0\0\0\x20ftypM4A \0\0\0\0")
    server.reset()
    with pytest.raises(AudioDecodeError, match=r"^unsupported format '\.m4a'"):
        load_clip(str(bucket / "clip.m4a"), SMALL_FEATURES)
    assert server.requests() == {"GET": 1}


def test_unreachable_store_is_no_reason_of_a_clip() -> None:
    path = "s3://bucket/1.wav?endpoint=http://127.0.0.1:9&region=us-east-1"
    file = FetchedFile(path, OSError("error sending request\nfor url"))
    with pytest.raises(UserError, match=r"^error sending request for url while reading s3://bucket/1\.wav"):
        load_clip(file, SMALL_FEATURES)


def test_read_that_hangs_is_repeated_then_reported(
    server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that does not answer is no reason to reject the clip, and ends before its watchdog."""
    assert store_connections._READ_TIMEOUT_S + store_connections.RETRY_TIME_S < CLIP_TIMEOUT_S / 2
    monkeypatch.setattr(store_connections, "_READ_TIMEOUT_S", 0.3)
    monkeypatch.setattr(store_connections, "RETRY_TIME_S", 1)
    path = str(server.bucket("hanging", tmp_path) / "1.wav")
    server.configure(latency_s=30.0)
    try:
        server.reset()
        with pytest.raises(UserError, match=r"^.* while reading s3://hanging/1\.wav.*$"):
            load_clip(path, SMALL_FEATURES)
        assert server.requests()["GET"] > 1
    finally:
        server.configure(latency_s=0.0)


def test_windows_of_objects_are_not_fetched(bucket: Any, server: S3Server) -> None:
    clips = [{**clip, "start": 0.0, "end": 5.0} for clip in clips_in(bucket)]
    assert list(clip_sources(clips)) == [clip["path"] for clip in clips]
    assert server.requests() == {}
