"""Spectrogram and audio of a recording are read once; what cannot be read is a gap, and silent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.audio.decode import AudioDecodeError
from pipeline.audio.mel import log_mel
from pipeline.audio.recordings import Recording, read_recording
from pipeline.report.ogg_audio import audio_uri
from pipeline.report.recording_media import merge_spans, read_media
from tests.helpers.sounds import RATE, tone
from tests.pipeline.report.test_clips import decode_audio
from tests.pipeline.report.test_tiles import CONFIG

SECONDS = 80.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.flac"
    soundfile.write(path, tone(700, SECONDS), RATE)
    return path


def test_media_cover_the_recording(path: Path) -> None:
    media = read_media(str(path), read_recording(str(path)), CONFIG, 10**7)
    samples, _ = soundfile.read(path, dtype="float32")
    whole = log_mel(CONFIG)(samples)[:, : media.columns.columns.shape[1]]
    np.testing.assert_allclose(media.columns.columns, whole, atol=1e-2)
    assert media.gaps == []
    decoded, _, _ = decode_audio(audio_uri(media.audio or b""))
    assert decoded.size == samples.size
    assert np.corrcoef(decoded, samples)[0, 1] > 0.95


def test_missing_end_is_a_gap_and_silent(path: Path) -> None:
    media = read_media(str(path), Recording(SECONDS + 40, RATE), CONFIG, 10**7)
    assert media.gaps == [(SECONDS, SECONDS + 40)]
    assert np.isnan(media.columns.columns[:, -1]).all()
    decoded, _, _ = decode_audio(audio_uri(media.audio or b""))
    assert decoded.size == (SECONDS + 40) * RATE
    assert np.abs(decoded[-30 * RATE :]).max() < 1e-3 < np.abs(decoded[: 30 * RATE]).max()


def test_file_without_audio_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"no audio" * 100)
    with pytest.raises(AudioDecodeError):
        read_media(str(tmp_path / "a.wav"), Recording(5.0, RATE), CONFIG, 10**7)


def test_spans_that_meet_are_merged() -> None:
    assert merge_spans([(0, 1), (1, 2), (4, 6), (5, 5.5)]) == [(0, 2), (4, 6)]
