"""Tests of files that consist of several streams, such as those that `cat a.ogg b.ogg` makes."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from pipeline.audio.decode import AudioDecodeError, decode
from tests.helpers.audio_formats import (
    RATE,
    drop_first_mp3_frame,
    encode,
    noise,
    peak_frequency,
    rms,
    sine,
)

FORMATS = [
    ("WAV", "PCM_16"),
    ("WAV", "PCM_U8"),
    ("RF64", "PCM_16"),
    ("W64", "PCM_16"),
    ("AIFF", "PCM_16"),
    ("AU", "PCM_16"),
    ("CAF", "PCM_16"),
    ("SVX", "PCM_16"),
    ("NIST", "PCM_16"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
]
ID3V1 = b"TAG" + bytes(125)


def id3v2(size: int) -> bytes:
    """Return a tag with random content, such as a picture."""
    content = np.random.default_rng(0).integers(0, 256, size, np.uint8).tobytes()
    return b"ID3\3\0\0" + bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0)) + content


def ape(size: int) -> bytes:
    """Return an APE tag with random content."""
    content = np.random.default_rng(1).integers(0, 256, size, np.uint8).tobytes()
    header, footer = (struct.pack("<IIII", 2000, size + 32, 1, flags) for flags in (0xA0000000, 0x80000000))
    return b"APETAGEX" + header + bytes(8) + content + b"APETAGEX" + footer + bytes(8)


def decode_quietly(content: bytes) -> np.ndarray:
    """Decode without any tolerance or warning."""
    warnings: list[str] = []
    samples = decode(content, RATE, 1.0, warnings.append)
    assert warnings == []
    return samples


@pytest.mark.parametrize(("name", "subtype"), FORMATS)
def test_decode_concatenated_files_are_complete(name: str, subtype: str, tmp_path: Path):
    first, second = encode(noise(2.0), name, subtype), encode(noise(1.0, seed=1), name, subtype)
    expected = np.concatenate([decode(content, RATE) for content in (first, second, first, first)])
    content = first + second + first + first
    np.testing.assert_array_equal(decode_quietly(content), expected)
    path = tmp_path / "file"
    path.write_bytes(content)
    np.testing.assert_array_equal(decode(path, RATE), expected)


@pytest.mark.parametrize(("name", "subtype"), [key for key in FORMATS if key[0] != "SVX"])  # mono only
def test_decode_concatenated_rates_and_channels_are_converted(name: str, subtype: str):
    high = encode(sine(600.0, 2.0, 16_000), name, subtype, 16_000)
    stereo = encode(np.stack([sine(900.0, 2.0)] * 2, axis=1), name, subtype)
    samples = decode_quietly(encode(sine(300.0, 2.0), name, subtype) + high + stereo)
    assert samples.size == pytest.approx(6 * RATE, abs=100)
    parts = [samples[start + 500 : start + 2 * RATE - 500] for start in (0, 2 * RATE, 4 * RATE)]
    assert [round(peak_frequency(part, RATE), -2) for part in parts] == [300, 600, 900]


def test_decode_concatenated_mp3_skips_tags():
    mp3 = encode(noise(2.0), "MP3", "MPEG_LAYER_III")
    for between in (b"", ID3V1, id3v2(50_000), ID3V1 + id3v2(50_000), ape(50_000) + ID3V1, bytes(3000)):
        assert decode_quietly(id3v2(100) + mp3 + between + mp3).size == 4 * RATE
        assert decode_quietly(mp3 + between).size == 2 * RATE


def test_decode_concatenated_mp3_without_length_is_complete():
    mp3, bare = (cut(encode(noise(5.0), "MP3", "MPEG_LAYER_III")) for cut in (bytes, drop_first_mp3_frame))
    for content in (bare + mp3, mp3 + bare, bare + bare, bare + ID3V1 + id3v2(50_000) + bare):
        assert 10 * RATE <= decode_quietly(content).size < 10 * RATE + 4 * 1152


def test_decode_variable_mp3_without_length_is_complete():
    for quiet in (0.001, 0.1):
        parts = [noise(5.0, level=quiet), noise(5.0, level=0.101 - quiet)]
        samples = decode_quietly(drop_first_mp3_frame(encode(np.concatenate(parts), "MP3", "MPEG_LAYER_III")))
        assert 10 * RATE <= samples.size < 10 * RATE + 2 * 1152


@pytest.mark.parametrize("difference", [-5000, -600, -144, 144, 5000])
def test_decode_mp3_with_wrong_size_is_one_stream(difference: int):
    content = encode(noise(10.0), "MP3", "MPEG_LAYER_III")
    position = content.index(b"Xing") + 12
    (size,) = struct.unpack(">I", content[position : position + 4])
    changed = content[:position] + struct.pack(">I", size + difference) + content[position + 4 :]
    np.testing.assert_array_equal(decode_quietly(changed), decode(content, RATE))


def test_decode_chained_ogg_with_cut_link_warns():
    ogg, warnings = encode(noise(5.0), "OGG", "VORBIS"), []
    samples = decode(ogg[: len(ogg) // 2] + ogg, RATE, on_warning=warnings.append)
    assert 6 * RATE < samples.size < 9 * RATE
    assert warnings == ["truncated: the end is missing, by an unknown amount"]


def test_decode_unreadable_second_stream_is_rejected():
    ogg = encode(noise(), "OGG", "VORBIS")
    with pytest.raises(AudioDecodeError, match=r"^unreadable: .* \(stream 2 of 2\)$"):
        decode(ogg + ogg[:1000], RATE)


def test_decode_streams_count_together_for_min_complete():
    wav = encode(noise())
    assert decode(wav * 3 + wav[: len(wav) // 2], RATE).size == pytest.approx(3.5 * RATE, abs=50)
    with pytest.raises(AudioDecodeError, match=r"^truncated: 74\.\d % "):
        decode(wav + wav[: len(wav) // 2], RATE)


def test_decode_digital_silence_warns():
    warnings: list[str] = []
    assert rms(decode(encode(np.zeros(RATE, np.float32)), RATE, on_warning=warnings.append)) == 0
    assert warnings == ["digital silence: every sample is zero"]


@pytest.mark.parametrize("level", [0.5, -0.5, -1 / 32768])
def test_decode_constant_samples_warn(level: float):
    warnings: list[str] = []
    for rate in (RATE, 11_025):
        decode(encode(np.full(RATE, level, np.float32)), rate, on_warning=warnings.append)
    assert warnings == 2 * ["digital silence: all samples are equal"]


def test_decode_integers_as_floats_warns():
    warnings: list[str] = []
    decode(encode(32768 * noise(), subtype="FLOAT"), RATE, on_warning=warnings.append)
    assert warnings == ["RMS of 3.29e+03, where full scale is 1: integers as floats?"]


def test_decode_ultrasonic_recording_at_low_rate_warns():
    content = encode(noise(), rate=256_000)
    warnings: list[str] = []
    decode(content, 22_050, on_warning=warnings.append)
    assert warnings == [
        "sample rate of 256000 Hz: frequencies above 11025 Hz are lost; "
        "to keep them, extract and train with a higher --features.mel.sample-rate"
    ]
    warnings.clear()
    decode(content, 256_000, on_warning=warnings.append)
    assert not warnings
