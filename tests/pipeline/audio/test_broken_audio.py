"""Tests of invalid audio files: each is rejected with its reason, and no valid file is."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from pipeline.audio.decode import AudioDecodeError, decode
from tests.helpers.audio_formats import FORMATS, RATE, broken_files, encode, noise


@pytest.mark.parametrize("name", broken_files())
def test_decode_invalid_file_raises_with_reason(name: str, tmp_path: Path):
    path = tmp_path / name
    content, reason = broken_files()[name]
    path.write_bytes(content)
    for source, rate in ((path, 22_050), (content, RATE)):
        with pytest.raises(AudioDecodeError) as error:
            decode(source, rate)
        assert re.search(reason, str(error.value)), str(error.value)


@pytest.mark.parametrize(
    ("path", "reason"),
    [("missing.wav", "no such file"), (".", "unreadable: "), ("nul\0.wav", "unreadable: ")],
)
def test_decode_missing_file_raises_with_reason(path: str, reason: str, tmp_path: Path):
    with pytest.raises(AudioDecodeError, match=f"^{reason}"):
        decode(tmp_path / path, RATE)


def test_decode_corrupt_bytes_raises_only_decode_errors(capfd: pytest.CaptureFixture[str]):
    rng = np.random.default_rng(0)
    # libsndfile writes to stdout for MIDI sample dumps; SD2 has a second file.
    for name, subtype in [key for key in FORMATS if key[0] not in ("SD2", "SDS")]:
        content = encode(noise(0.1), name, subtype)
        for _ in range(3):
            try:
                samples = decode(corrupt(content, rng), RATE)
            except AudioDecodeError as error:
                assert str(error)
            else:
                assert 0 < samples.size < 1e7
                assert np.isfinite(samples).all()
    assert capfd.readouterr() == ("", "")


def corrupt(content: bytes, rng: np.random.Generator) -> bytes:
    """Change random bytes, mostly of the header, and cut or repeat the file."""
    data = bytearray(content)
    for limit in (64, 300, len(data)):
        data[rng.integers(min(limit, len(data)))] = rng.choice([0, 0x7F, 0xFF, rng.integers(256)])
    return [bytes(data), bytes(data[: rng.integers(len(data))]), bytes(data) + content][rng.integers(3)]
