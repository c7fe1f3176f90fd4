"""Tests of uncompressed files whose header declares no length, or less than there is."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import pytest

from pipeline.audio.decode import AudioDecodeError, decode
from tests.helpers.audio_formats import RATE, encode, noise, set_wav_sizes

NEVER_CLOSED = [
    "the header declares no samples (the file was never closed): read to the end of the file",
]
LIST = b"LIST" + struct.pack("<I", 16) + b"INFOISFT" + struct.pack("<I", 4) + b"abc\0"


def set_size(name: str, field: bytes, size_format: str, *sizes: int) -> Callable[[], bytes]:
    """Return a function that encodes a file and overwrites what follows the bytes `field`."""

    def content() -> bytes:
        data = encode(noise(), name)
        start = data.index(field) + len(field)
        sized = struct.pack(size_format, *sizes)
        return data[:start] + sized + data[start + len(sized) :]

    return content


@pytest.mark.parametrize(
    "content",
    [
        lambda: set_wav_sizes(encode(noise()), 0, 0),
        lambda: set_wav_sizes(encode(noise()), 8, 0),
        lambda: set_wav_sizes(encode(noise()), 36, 0),
        lambda: set_wav_sizes(encode(noise()), 36 + 2 * RATE, 0),
        lambda: set_wav_sizes(encode(noise()), 0xFFFFFFFF, 0),
        lambda: set_wav_sizes(encode(noise()) + LIST, 36 + 2 * RATE + len(LIST), 0),
        set_size("AIFF", b"SSND", ">I", 0),
        set_size("AIFF", b"SSND", ">I", 8),
        set_size("AU", struct.pack(">I", 24), ">I", 0),
        set_size("RF64", b"ds64" + struct.pack("<I", 28), "<QQQ", 0, 0, 0),
        set_size("W64", b"data\xf3\xac\xd3\x11\x8c\xd1\0\xc0\x4f\x8e\xdb\x8a", "<Q", 0),
        set_size("CAF", b"data", ">q", 0),
    ],
)
def test_decode_file_never_closed_is_complete(content: Callable[[], bytes]):
    warnings: list[str] = []
    samples = decode(content(), RATE, 1.0, warnings.append)
    np.testing.assert_array_equal(samples, decode(encode(noise()), RATE))
    assert warnings == NEVER_CLOSED


@pytest.mark.parametrize(
    "content",
    [
        lambda: set_wav_sizes(encode(noise()), 0xFFFFFFFF, 0xFFFFFFFF),
        lambda: set_wav_sizes(encode(noise()), 0x7FFFFFFF, 0x7FFFFFFF),
        lambda: set_wav_sizes(encode(noise()), 0x80000024, 0x80000000),
        lambda: set_wav_sizes(encode(noise()), 0, 0xFFFFFFFF),
        set_size("AU", struct.pack(">I", 24), ">I", 0xFFFFFFFF),
        set_size("RF64", b"ds64" + struct.pack("<I", 28), "<QQ", 2**64 - 1, 2**64 - 1),
        set_size("CAF", b"data", ">q", -1),
    ],
)
def test_decode_file_written_to_pipe_is_complete(content: Callable[[], bytes]):
    warnings: list[str] = []
    samples = decode(content(), RATE, 1.0, warnings.append)
    np.testing.assert_array_equal(samples, decode(encode(noise()), RATE))
    assert warnings == []


@pytest.mark.parametrize("rest", [b"", LIST, LIST + LIST, b"PAD " + struct.pack("<I", 3) + b"abc\0"])
def test_decode_wav_without_samples_is_rejected(rest: bytes):
    with pytest.raises(AudioDecodeError, match=r"^no samples$"):
        decode(encode(noise()[:0]) + rest, RATE)


@pytest.mark.parametrize(
    "rest", [b"", LIST, b"\0" + LIST, b"TAG" + bytes(125), bytes(100_000), b"\xff" * 100_000, b"x" * 4000]
)
def test_decode_bytes_after_the_audio_are_ignored(rest: bytes):
    for size in (RATE, 4001):
        warnings: list[str] = []
        assert decode(encode(noise()[:size], "WAV", "PCM_U8") + rest, RATE, 1.0, warnings.append).size == size
        assert warnings == []


def test_decode_many_bytes_after_the_audio_warns():
    warnings: list[str] = []
    wav = encode(noise())
    assert decode(set_wav_sizes(wav, 1036, 1000), RATE, 1.0, warnings.append).size == 500
    assert warnings == ["15000 bytes after the declared end of the audio are not used"]


@pytest.mark.parametrize(
    ("code", "width", "warning"),
    [
        (1, 4, []),
        (0xFFFE, 3, []),
        (0xFFFE, 4, ["the header declares 1 x 24 bits in 4 bytes: the samples may be wrong"]),
    ],
)
def test_decode_wav_with_contradicting_sizes_warns(code: int, width: int, warning: list[str]):
    data, warnings = bytes(width * RATE), []
    header = struct.pack("<HHIIHH", code, 1, RATE, width * RATE, width, 24)
    if code == 0xFFFE:
        header += struct.pack("<HHI", 22, 24, 4) + bytes.fromhex("0100000000001000800000aa00389b71")
    chunks = b"fmt " + struct.pack("<I", len(header)) + header + b"data" + struct.pack("<I", len(data)) + data
    decode(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks, RATE, 1.0, warnings.append)
    assert warnings == ["digital silence: every sample is zero", *warning]


@pytest.mark.parametrize("fraction", [1.0, 0.9])
def test_decode_mp3_in_wav_warns_only_if_truncated(fraction: float):
    mp3, warnings = encode(noise(5.0), "MP3", "MPEG_LAYER_III"), []
    header = struct.pack("<HHIIHHHHIHHH", 0x55, 1, RATE, len(mp3) // 5, 1, 0, 12, 1, 2, 144, 1, 0)
    chunks = b"fmt " + struct.pack("<I", len(header)) + header + b"data" + struct.pack("<I", len(mp3)) + mp3
    wav = b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks
    samples = decode(wav[: int(len(wav) * fraction)], RATE, on_warning=warnings.append)
    assert samples.size == pytest.approx(fraction * 5 * RATE, abs=1200)
    assert [text.partition(":")[0] for text in warnings] == (["truncated"] if fraction < 1 else [])
