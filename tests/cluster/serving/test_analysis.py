"""What a replica answers about the bytes of a sound."""

from __future__ import annotations

import re

import numpy as np
import pytest

from cluster.serving.analysis import SoundSpectrograms, analyze
from cluster.serving.messages import Rejection, Sound
from pipeline.audio.features import FeatureConfig, load_clip, spectrogram
from pipeline.audio.mel import MelConfig
from tests.helpers.audio_formats import RATE, encode, noise

FEATURES = FeatureConfig(mel=MelConfig(sample_rate=RATE, fmax=RATE / 2), seconds=10.0, trim_db=None)


def spoil(content: bytes, fraction: float) -> bytes:
    """Overwrite the page of an Ogg file at this fraction of its bytes."""
    start = content.rindex(b"OggS", 0, int(fraction * len(content)))
    return content[: start + 50] + bytes(200) + content[start + 250 :]


def test_classified_clip_with_damaged_end_has_a_warning_with_the_position():
    content = encode(noise(10.0), "OGG", "VORBIS")
    intact = analyze(Sound("a.ogg", content), FEATURES, 60.0)
    result = analyze(Sound("a.ogg", spoil(content, 0.9)), FEATURES, 60.0)
    assert isinstance(intact, SoundSpectrograms) and isinstance(result, SoundSpectrograms)
    assert intact.warnings == []
    (warning,) = result.warnings
    seconds = float(re.search(r"up to (\d\.\d\d) s, where it is damaged$", warning)[1])
    assert 7.5 <= seconds < 10
    same = int(seconds * RATE / FEATURES.mel.hop_length) - 3
    np.testing.assert_allclose(result.mels[0, :, :same], intact.mels[0, :, :same], atol=0.25)


def test_clip_that_is_damaged_early_is_refused_with_the_reason():
    content = encode(noise(10.0), "OGG", "VORBIS")
    result = analyze(Sound("a.ogg", spoil(content, 0.5)), FEATURES, 60.0)
    assert isinstance(result, Rejection) and result.status == 422
    assert re.search(r"up to \d\.\d\d s, where it is damaged, less than --min-complete", result.reason)


@pytest.mark.parametrize(("silence", "hop", "windows"), [(2.0, None, 1), (2.0, 0.5, 9), (30.0, None, 121)])
def test_short_sound_with_silence_around_it_is_one_clip(
    silence: float, hop: float | None, windows: int
) -> None:
    """As `melray predict` and the Python interface classify it, which trim the silence."""
    features = FEATURES.model_copy(update={"seconds": 1.0, "trim_db": 60.0})
    quiet = np.zeros(round(silence * RATE), np.float32)
    content = encode(np.concatenate([quiet, noise(1.0), quiet]), "WAV", "PCM_16")
    result = analyze(Sound("a.wav", content, hop=hop), features, 600.0)
    assert isinstance(result, SoundSpectrograms) and len(result.mels) == windows
    if windows == 1:
        assert result.starts is None
        np.testing.assert_array_equal(result.mels[0], spectrogram(load_clip(content, features), features))
