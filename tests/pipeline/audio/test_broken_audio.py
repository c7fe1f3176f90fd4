"""Tests of invalid audio files: each is rejected with its reason, and no valid file is."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from pipeline.audio.decode import AudioDecodeError, decode
from tests.helpers.audio_formats import LENGTH_CHECKED_FORMATS, RATE, broken_files, encode, noise


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


@pytest.mark.parametrize(("name", "subtype"), LENGTH_CHECKED_FORMATS)
def test_decode_detects_truncation_without_false_alarms(name: str, subtype: str):
    for size in (RATE, 4001, 33):
        assert decode(encode(noise()[:size], name, subtype), RATE).size >= size
    content = encode(noise(10.0), name, subtype)
    for fraction in (0.02, 0.3, 0.5, 0.9, 0.99, 0.999):
        with pytest.raises(AudioDecodeError, match=r"^(truncated|unreadable): "):
            decode(content[: int(len(content) * fraction)], RATE)


def test_decode_detects_truncated_recordings(esc10: list[Path]):
    for path in esc10[::20]:
        content = path.read_bytes()
        assert decode(content, RATE).size > 1000
        with pytest.raises(AudioDecodeError, match=r"^truncated: "):
            decode(content[: len(content) * 9 // 10], RATE)


def test_decode_corrupt_bytes_raises_only_decode_errors(tmp_path: Path):
    path = tmp_path / "corrupt"
    rng = np.random.default_rng(0)
    for name, subtype in LENGTH_CHECKED_FORMATS:
        content = np.frombuffer(encode(noise(0.1), name, subtype), np.uint8)
        for _ in range(10):
            corrupted = content.copy()
            corrupted[rng.integers(0, min(200, content.size), 3)] = rng.integers(0, 256, 3)
            path.write_bytes(corrupted.tobytes())
            try:
                assert np.isfinite(decode(path, RATE)).all()
            except AudioDecodeError as error:
                assert str(error)
