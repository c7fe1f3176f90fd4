"""A true reason for every file that is no sound, and none for a file that is."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from pipeline.audio.decode import AudioDecodeError, decode
from tests.helpers.audio_formats import CHECKED_FORMATS, RATE, broken_files, encoded, noise


@pytest.mark.parametrize("name", broken_files())
def test_broken_files_are_refused_with_their_reason(name: str, tmp_path: Path):
    path = tmp_path / name
    content, reason = broken_files()[name]
    path.write_bytes(content)
    for source, rate in ((path, 22_050), (content, RATE)):
        with pytest.raises(AudioDecodeError) as caught:
            decode(source, rate)
        assert re.search(reason, str(caught.value)), str(caught.value)


@pytest.mark.parametrize(
    ("path", "reason"),
    [("missing.wav", "no such file"), (".", "unreadable: "), ("nul\0.wav", "unreadable: ")],
)
def test_no_file_at_all(path: str, reason: str, tmp_path: Path):
    with pytest.raises(AudioDecodeError, match=f"^{reason}"):
        decode(tmp_path / path, RATE)


@pytest.mark.parametrize(("name", "subtype"), CHECKED_FORMATS)
def test_a_missing_end_is_noticed_and_no_whole_file_suspected(name: str, subtype: str):
    for size in (RATE, 4001, 33):
        assert decode(encoded(noise()[:size], name, subtype), RATE).size >= size
    whole = encoded(noise(10.0), name, subtype)
    for part in (0.02, 0.3, 0.5, 0.9, 0.99, 0.999):
        with pytest.raises(AudioDecodeError, match=r"^(truncated|unreadable): "):
            decode(whole[: int(len(whole) * part)], RATE)


def test_a_missing_end_is_noticed_in_real_recordings(esc10: list[Path]):
    for path in esc10[::20]:
        content = path.read_bytes()
        assert decode(content, RATE).size > 1000
        with pytest.raises(AudioDecodeError, match=r"^truncated: "):
            decode(content[: len(content) * 9 // 10], RATE)


def test_damaged_bytes_never_raise_anything_else(tmp_path: Path):
    path = tmp_path / "damaged"
    rng = np.random.default_rng(0)
    for name, subtype in CHECKED_FORMATS:
        content = np.frombuffer(encoded(noise(0.1), name, subtype), np.uint8)
        for _ in range(10):
            damaged = content.copy()
            damaged[rng.integers(0, min(200, content.size), 3)] = rng.integers(0, 256, 3)
            path.write_bytes(damaged.tobytes())
            try:
                assert np.isfinite(decode(path, RATE)).all()
            except AudioDecodeError as error:
                assert str(error)
