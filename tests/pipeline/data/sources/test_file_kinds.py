"""Files without known endings in a bucket are recognized by their first bytes, read concurrently."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from pipeline.audio.file_types import FileKind, read_header
from pipeline.data.manifest import read_manifest
from pipeline.data.sources import file_kinds as module
from pipeline.data.sources.audio_folders import has_recordings, with_recordings
from pipeline.data.sources.file_kinds import file_kinds
from pipeline.io.concurrent import map_concurrently
from pipeline.io.errors import UserError
from pipeline.io.folder_tree import open_tree
from pipeline.io.store_errors import StoreError
from tests.helpers.s3_server import S3Server

WAV = b"RIFF\x24\0\0\0WAVEfmt "
# Of the first 15, at most eight are read at a time.
NAMES = [f"{index:03d}" for index in range(31)]


@pytest.fixture(scope="module")
def bucket(server: S3Server) -> Any:
    bucket = server.bucket()
    files = [f"{folder}/{name}" for folder in ("dog", "rain") for name in NAMES]

    def write(name: str) -> None:
        (bucket / name).write_bytes(WAV)

    for _ in map_concurrently(write, files):
        pass
    (bucket / "dog/notes.dat").write_bytes(b"\0\1")
    (bucket / "other/x.wav").write_bytes(WAV)
    return bucket


def test_first_bytes_are_read_once_for_each_file(server: S3Server, bucket: Any):
    server.reset()
    manifest = read_manifest(bucket)
    assert len(manifest.clips) == 2 * len(NAMES) + 1
    assert server.requests() == {"LIST": 2, "GET": 2 * len(NAMES) + 1}
    assert "ignoring 1 file without audio (.dat: 1)" in manifest.warnings


def test_first_recording_is_found_by_one_request(server: S3Server, bucket: Any):
    tree = open_tree(bucket)
    server.reset()
    assert has_recordings(tree, "dog")
    assert server.requests() == {"GET": 1}
    assert with_recordings(tree, ["rain", "none", "other", "dog"]) == ["rain", "other", "dog"]


def test_first_bytes_are_read_concurrently(bucket: Any, monkeypatch: pytest.MonkeyPatch):
    barrier = threading.Barrier(8, timeout=30)

    def read_together(path: str) -> bytes:
        if path.partition("?")[0] >= str(bucket / "dog" / NAMES[15]).partition("?")[0]:
            barrier.wait()
        return read_header(path)

    monkeypatch.setattr(module, "read_header", read_together)
    files = [(f"dog/{name}", index) for index, name in enumerate(NAMES)]
    kinds = list(file_kinds(open_tree(bucket), iter(files)))
    assert kinds == [(name, index, FileKind.AUDIO) for name, index in files]


def test_file_that_the_store_refuses_is_not_left_out(server: S3Server, bucket: Any):
    answer = "<Error><Code>AccessDenied</Code><Message>No.</Message></Error>"
    server.configure(errors={"GET": (403, answer)})
    try:
        with pytest.raises(StoreError, match="AccessDenied"):
            list(file_kinds(open_tree(bucket), [("dog/000", None)]))
        with pytest.raises(UserError, match="AccessDenied"):
            read_manifest(bucket)
    finally:
        server.configure(errors={})
    ((name, _, kind),) = file_kinds(open_tree(bucket), [("dog/000", None)])
    assert (name, kind) == ("dog/000", FileKind.AUDIO)
