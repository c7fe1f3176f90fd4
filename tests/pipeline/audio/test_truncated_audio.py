"""Tests of files that are shorter than they declare: used with a warning or rejected."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import pytest

from pipeline.audio.decode import AudioDecodeError, decode
from tests.helpers.audio_formats import (
    LENGTH_CHECKED_FORMATS,
    RATE,
    drop_first_mp3_frame,
    encode,
    noise,
    set_mp3_frame_count,
    set_wav_sizes,
)


def decode_warned(content: bytes, min_complete: float = 0.75) -> tuple[np.ndarray, list[str]]:
    warnings: list[str] = []
    return decode(content, RATE, min_complete, warnings.append), warnings


@pytest.mark.parametrize(("name", "subtype"), LENGTH_CHECKED_FORMATS)
def test_decode_intact_file_has_no_warning(name: str, subtype: str):
    for size in (RATE, 4001, 33):
        samples, warnings = decode_warned(encode(noise()[:size], name, subtype), min_complete=1.0)
        assert samples.size >= size
        assert warnings == []


@pytest.mark.parametrize("fraction", [0.8, 0.9, 0.99, 0.999])
@pytest.mark.parametrize(("name", "subtype"), LENGTH_CHECKED_FORMATS)
def test_decode_mostly_complete_file_is_used(name: str, subtype: str, fraction: float):
    content = encode(noise(10.0), name, subtype)
    cut = content[: int(len(content) * fraction)]
    samples, (warning,) = decode_warned(cut)
    assert warning.startswith("truncated: ")
    # Compressed blocks that are not complete are lost.
    assert fraction * 10 * RATE - 5000 < samples.size < 10 * RATE + 640
    whole = decode(content, RATE)
    if subtype not in ("MPEG_LAYER_III", "MS_ADPCM"):
        np.testing.assert_array_equal(samples, whole[: samples.size])
    with pytest.raises(AudioDecodeError, match=r"^truncated: \d+\.\d % .*less than --min-complete 1$"):
        decode(cut, RATE, min_complete=1.0)


@pytest.mark.parametrize("fraction", [0.02, 0.3, 0.6])
@pytest.mark.parametrize(("name", "subtype"), LENGTH_CHECKED_FORMATS)
def test_decode_mostly_missing_file_is_rejected(name: str, subtype: str, fraction: float):
    content = encode(noise(10.0), name, subtype)
    with pytest.raises(AudioDecodeError, match=r"^(truncated|unreadable): "):
        decode(content[: int(len(content) * fraction)], RATE)


def test_decode_min_complete_decides():
    half = encode(noise())[: 44 + RATE]
    assert decode(half, RATE, min_complete=0.5).size == RATE // 2
    with pytest.raises(AudioDecodeError, match=r"^truncated: 50.0 % .*, less than --min-complete 0.6$"):
        decode(half, RATE, min_complete=0.6)


@pytest.mark.parametrize("missing", [2, 3, 36, 100])
def test_decode_wav_lacking_few_bytes_is_used(missing: int):
    wav = encode(noise())
    for content in (wav[:-missing], set_wav_sizes(wav, len(wav) - 8, 2 * RATE + missing)):
        samples, warnings = decode_warned(content)
        np.testing.assert_array_equal(samples, decode(wav, RATE)[: samples.size])
        assert RATE - missing <= samples.size
        assert warnings == ["truncated: 99.9 % of the declared samples"] or missing > 8


def test_decode_wav_lacking_half_frame_is_intact():
    stereo = encode(np.stack([noise(), noise(seed=1)], axis=1))
    samples, warnings = decode_warned(set_wav_sizes(stereo, len(stereo) - 8, 4 * RATE + 3), min_complete=1.0)
    assert (samples.size, warnings) == (RATE, [])


def test_decode_wav_size_including_last_chunk_ignores_it():
    wav = encode(noise())
    chunk = b"LIST" + struct.pack("<I", 16) + b"INFOISFT" + struct.pack("<I", 4) + b"abc\0"
    samples, (warning,) = decode_warned(set_wav_sizes(wav + chunk, len(wav), 2 * RATE + len(chunk) + 8))
    np.testing.assert_array_equal(samples, decode(wav, RATE))
    assert warning.startswith("truncated: 99.")


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_decode_cut_ogg_is_used(subtype: str):
    content = encode(noise(10.0), "OGG", subtype)
    for cut in (content[: len(content) * 6 // 10], content[: content.rindex(b"OggS")]):
        samples, warnings = decode_warned(cut, min_complete=0.99)
        assert 3 * RATE < samples.size < 10 * RATE
        assert warnings == ["truncated: the end is missing, by an unknown amount"]
        with pytest.raises(AudioDecodeError, match=r"unknown amount, and --min-complete is 1$"):
            decode(cut, RATE, min_complete=1.0)


@pytest.mark.parametrize("difference", [1, 2, 3])
def test_decode_mp3_declaring_more_frames_is_intact(difference: int):
    content = encode(noise(10.0), "MP3", "MPEG_LAYER_III")
    samples, warnings = decode_warned(set_mp3_frame_count(content, difference), min_complete=1.0)
    assert 10 * RATE <= samples.size < 10 * RATE + 576
    assert warnings == []


def test_decode_mp3_cut_within_frame_warns():
    content = encode(noise(10.0), "MP3", "MPEG_LAYER_III")
    for cut in (content[:-50], drop_first_mp3_frame(content)[:-50]):
        samples, (warning,) = decode_warned(cut)
        assert warning.startswith("truncated: ")
        assert samples.size > 10 * RATE - 1000
        with pytest.raises(AudioDecodeError, match=r"^truncated: "):
            decode(cut, RATE, min_complete=1.0)


def test_decode_flac_of_unknown_length_is_complete():
    content = bytearray(encode(noise(10.0), "FLAC"))
    # Low 4 bits of byte 13 of the first block and the following 4 bytes: number of samples.
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    samples, warnings = decode_warned(bytes(content), min_complete=1.0)
    assert (samples.size, warnings) == (10 * RATE, [])
    samples, warnings = decode_warned(bytes(content[:-500]))
    position = f"up to {samples.size / RATE:.2f} s, where it is damaged"
    assert warnings == [f"truncated: the end is missing, by an unknown amount, {position}"]


def test_decode_flac_with_broken_frame_keeps_what_precedes():
    content = bytearray(encode(noise(10.0), "FLAC"))
    content[len(content) * 9 // 10] ^= 0xFF
    samples, (warning,) = decode_warned(bytes(content))
    assert samples.size > 8 * RATE
    percent = math.floor(samples.size / RATE * 100) / 10
    position = f"up to {samples.size / RATE:.2f} s, where it is damaged"
    assert warning == f"truncated: {percent} % of the declared samples, {position}"


def test_decode_truncated_recordings_are_used(esc10: list[Path]):
    for path in esc10[::20]:
        content = path.read_bytes()
        whole, warnings = decode_warned(content, min_complete=1.0)
        assert (whole.size > 1000, warnings) == (True, [])
        cut = content[: len(content) * 9 // 10]
        samples, warnings = decode_warned(cut)
        assert 0 < samples.size < whole.size
        assert "truncated: the end is missing, by an unknown amount" in warnings
        with pytest.raises(AudioDecodeError, match=r"^truncated: "):
            decode(cut, RATE, min_complete=1.0)
