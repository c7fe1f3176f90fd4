"""Spectrograms of the windows of a work unit: right samples, errors of single windows, clips that crash."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from pipeline.audio.augment import AugmentConfig
from pipeline.audio.decode import AudioDecodeError
from pipeline.audio.features import spectrogram
from pipeline.data import extraction
from pipeline.data.extraction import ClipExtractor
from pipeline.data.windows import window_id
from tests.helpers.annotated import write_recording
from tests.helpers.sounds import RATE, SMALL_FEATURES

EXTRACTOR = ClipExtractor(SMALL_FEATURES, AugmentConfig(copies=1))


def windows(path: Path, *starts: float) -> list[dict[str, Any]]:
    return [{"clip_id": window_id(path.name, start), "path": str(path), "start": start} for start in starts]


def test_windows_have_the_samples_at_their_times(tmp_path: Path):
    for name in ("a.wav", "b.flac"):
        write_recording(tmp_path / name, 5.4, [(1.2, 2.2, "tone 0"), (3.0, 5.0, "tone 2")])
    clips = windows(tmp_path / "a.wav", 0.0, 1.5, 4.5) + windows(tmp_path / "b.flac", 0.5, 5.0)
    result = EXTRACTOR.extract_windows(clips)
    assert result.clips == clips and not result.rejected
    for clip, rows in zip(clips, result.spectrograms, strict=True):
        samples, _ = soundfile.read(clip["path"], dtype="float32")
        first = round(clip["start"] * RATE)
        expected = spectrogram(samples[first : first + RATE], SMALL_FEATURES)
        assert np.abs(rows[0].mel.astype(np.float32) - expected).max() < 0.1
        assert [row.copy for row in rows] == [0, 1]


def test_windows_are_the_same_together_and_alone(tmp_path: Path):
    write_recording(tmp_path / "a.wav", 5.0, [(1.2, 2.2, "tone 0")])
    clips = windows(tmp_path / "a.wav", 0.0, 0.5, 1.0, 4.0)
    together, alone = (EXTRACTOR.extract_windows(clips, together=value) for value in (True, False))
    for rows, others in zip(together.spectrograms, alone.spectrograms, strict=True):
        for row, other in zip(rows, others, strict=True):
            assert (row.augmentation, row.strength) == (other.augmentation, other.strength)
            assert row.mel.tobytes() == other.mel.tobytes()


def test_window_that_crashed_is_skipped(tmp_path: Path):
    write_recording(tmp_path / "a.wav", 5.0, [])
    clips = windows(tmp_path / "a.wav", 0.0, 1.0, 2.0)
    crashing = clips[1]["clip_id"]
    result = EXTRACTOR.extract_windows(clips, lambda clip_id: clip_id != crashing, "crashed", together=False)
    assert result.clips == [clips[0], clips[2]]
    assert result.rejected == [(crashing, clips[1]["path"], "crashed")]


def test_unreadable_recording_rejects_its_windows_only(tmp_path: Path):
    (tmp_path / "bad.wav").write_text("not audio")
    write_recording(tmp_path / "good.wav", 2.0, [])
    bad, good = windows(tmp_path / "bad.wav", 0.0, 1.0), windows(tmp_path / "good.wav", 0.0)
    missing = windows(tmp_path / "missing.wav", 0.0)
    result = EXTRACTOR.extract_windows(bad + missing + good)
    assert result.clips == good
    assert [clip.clip_id for clip in result.rejected] == [clip["clip_id"] for clip in bad + missing]


def test_damaged_window_is_rejected_with_its_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    read_windows = extraction.read_each_window

    def damage_first(path: str, starts: Sequence[float], *arguments: Any) -> Iterator[Any]:
        arguments[3]("odd")  # on_warning
        for number, samples in enumerate(read_windows(path, starts, *arguments)):
            yield samples if number else AudioDecodeError("damaged")

    monkeypatch.setattr(extraction, "read_each_window", damage_first)
    write_recording(tmp_path / "a.wav", 5.0, [])
    clips = windows(tmp_path / "a.wav", 0.0, 1.0, 2.0)
    result = EXTRACTOR.extract_windows(clips)
    assert result.clips == clips[1:]
    assert result.rejected == [(clips[0]["clip_id"], clips[0]["path"], "damaged")]
    assert result.warnings == [(clips[1]["clip_id"], clips[1]["path"], "odd")]


def test_recording_is_read_once_for_neighboring_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    calls: list[list[float]] = []
    read_windows = extraction.read_each_window

    def count(path: str, starts: Sequence[float], *arguments: Any) -> Iterator[Any]:
        calls.append(list(starts))
        return read_windows(path, starts, *arguments)

    monkeypatch.setattr(extraction, "read_each_window", count)
    for name in ("a.wav", "b.wav"):
        write_recording(tmp_path / name, 5.0, [])
    EXTRACTOR.extract_windows(windows(tmp_path / "a.wav", 0.0, 1.0, 4.0) + windows(tmp_path / "b.wav", 2.0))
    assert calls == [[0.0, 1.0, 4.0], [2.0]]


def test_window_beyond_the_end_is_rejected(tmp_path: Path):
    write_recording(tmp_path / "a.wav", 2.0, [])
    result = EXTRACTOR.extract_windows(windows(tmp_path / "a.wav", 1.0, 9.0))
    assert len(result.clips) == 1 and len(result.rejected) == 1
