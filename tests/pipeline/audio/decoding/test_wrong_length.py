"""Tests of FLAC, MP3 and Ogg files that are longer than they declare, or end with other bytes."""

from __future__ import annotations

import re
import struct

import numpy as np
import pytest

from pipeline.audio.decode import decode
from tests.helpers.audio_formats import RATE, drop_first_mp3_frame, encode, noise, set_mp3_frame_count


def decode_warned(content: bytes) -> tuple[np.ndarray, list[str]]:
    warnings: list[str] = []
    return decode(content, RATE, 1.0, warnings.append), warnings


def set_flac_length(flac: bytes, num_samples: int) -> bytes:
    return flac[:22] + struct.pack(">I", num_samples) + flac[26:]


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
@pytest.mark.parametrize("channels", [1, 2])
def test_decode_flac_longer_than_declared_is_complete(subtype: str, channels: int):
    flac = encode(np.stack([noise(5.0, seed=i) for i in range(channels)], axis=1), "FLAC", subtype)
    for declared in (1, RATE, 5 * RATE - 1):
        samples, warnings = decode_warned(set_flac_length(flac, declared))
        np.testing.assert_array_equal(samples, decode(flac, RATE))
        assert warnings == [
            f"the header declares {declared} samples, but more follow: read to the end of the file"
        ]


def test_decode_concatenated_flac_longer_than_declared_is_complete():
    flac = encode(noise(5.0), "FLAC")
    samples, warnings = decode_warned(set_flac_length(flac, RATE) + flac)
    np.testing.assert_array_equal(samples, np.tile(decode(flac, RATE), 2))
    assert len(warnings) == 1


@pytest.mark.parametrize("with_size", [True, False])
def test_decode_mp3_longer_than_declared_is_complete(with_size: bool):
    mp3 = encode(noise(20.0), "MP3", "MPEG_LAYER_III")
    content = set_mp3_frame_count(mp3, -140)
    if not with_size:
        position = re.search(b"Xing|Info", content).end() + 8
        content = content[:position] + bytes(4) + content[position + 4 :]
    samples, warnings = decode_warned(content)
    assert 20 * RATE <= samples.size < 20 * RATE + 2 * 1152
    assert warnings == ["the header declares 140 MPEG frames, but there are 280: all are read"]


def test_decode_mp3_followed_by_zeros_is_intact():
    mp3 = drop_first_mp3_frame(encode(noise(20.0), "MP3", "MPEG_LAYER_III"))
    samples, warnings = decode_warned(mp3 + bytes(len(mp3) // 3))
    np.testing.assert_array_equal(samples, decode(mp3, RATE))
    assert warnings == []


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("size", [100, 70_000, 200_000])
def test_decode_ogg_padded_with_zeros_is_intact(subtype: str, size: int):
    ogg = encode(noise(5.0), "OGG", subtype)
    samples, warnings = decode_warned(ogg + bytes(size))
    np.testing.assert_array_equal(samples, decode(ogg, RATE))
    assert warnings == []
