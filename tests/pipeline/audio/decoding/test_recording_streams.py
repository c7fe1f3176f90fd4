"""Streams of files that are too large to be searched: one stream, or several of which none is overlooked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.audio.decoding import recording_streams as module
from pipeline.audio.decoding.byte_source import ByteSource
from pipeline.audio.decoding.recording_streams import recording_streams
from pipeline.audio.decoding.streams import find_streams
from tests.helpers.audio_formats import noise
from tests.pipeline.audio.test_recordings import encode_long

FORMATS = [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS")]


@pytest.fixture(autouse=True)
def every_file_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SMALL_BYTES", 0)
    monkeypatch.setattr(module, "_SAMPLE_BYTES", 1 << 14)


class UnsearchableSource(ByteSource):
    def find_all(self, magic: bytes) -> Iterator[int]:
        raise AssertionError("searched")


@pytest.mark.parametrize(("name", "subtype"), FORMATS)
def test_one_stream_is_found_without_search(name: str, subtype: str):
    content = encode_long(noise(120.0), name, subtype, 8000)
    (stream,) = recording_streams(UnsearchableSource(content))
    assert (stream.start, stream.end, stream.cut) == (0, len(content), False)


@pytest.mark.parametrize(("name", "subtype"), FORMATS)
@pytest.mark.parametrize("seconds", [(60, 60), (60, 2), (2, 60), (20, 20, 20, 20), (30, 60, 10)])
def test_no_concatenated_stream_is_overlooked(name: str, subtype: str, seconds: tuple[int, ...]):
    parts = [encode_long(noise(float(s), seed=i), name, subtype, 8000) for i, s in enumerate(seconds)]
    source = ByteSource(b"".join(parts))
    assert recording_streams(source) == find_streams(source)
    assert len(recording_streams(source)) == len(seconds)
    same = ByteSource(parts[0] * 2)
    assert recording_streams(same) == find_streams(same)


def test_cut_flac_is_found_without_search():
    content = encode_long(noise(120.0), "FLAC", "PCM_16", 8000)
    (stream,) = recording_streams(UnsearchableSource(content[: len(content) // 2]))
    assert (stream.start, stream.end) == (0, len(content) // 2)
