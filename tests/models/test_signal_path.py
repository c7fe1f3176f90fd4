"""The signal path as a torch module equals that of extraction and prediction."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.signal_path import balanced_factors
from pipeline.audio.features import FeatureConfig, spectrogram
from pipeline.audio.mel import MelConfig
from pipeline.audio.signal_path import signal_path
from pipeline.audio.waveform import trim_silence
from tests.helpers.audio_formats import noise, sine

RATE = 8000
FEATURES = {
    "power of two": FeatureConfig(mel=MelConfig(sample_rate=RATE, n_fft=512, hop_length=128), seconds=1.0),
    "no common factor": FeatureConfig(
        mel=MelConfig(sample_rate=RATE, n_fft=254, hop_length=77, n_mels=20, fmin=100, fmax=3000), seconds=0.7
    ),
    "all of the range": FeatureConfig(
        mel=MelConfig(sample_rate=RATE, n_fft=400, hop_length=160, n_mels=40, top_db=None), seconds=1.0
    ),
    "tiny window": FeatureConfig(
        mel=MelConfig(sample_rate=RATE, n_fft=16, hop_length=160, n_mels=4), seconds=1.0
    ),
}
LENGTHS = (1, 2, 100, 511, 512, 513, 2048, 7999, 8000, 8001, 30_000)
LEVELS = {"noise": 0.1, "silence": 0.0, "loud": 1e3}


def sounds(num_samples: int) -> list[np.ndarray]:
    """Return noise at several levels, and noise between silent and quiet parts."""
    samples = noise(num_samples / RATE, RATE, level=1.0)
    quiet_ends = 0.1 * samples
    quiet_ends[: num_samples // 3] = 0
    quiet_ends[2 * num_samples // 3 :] *= 1e-5
    return [*(np.float32(level) * samples for level in LEVELS.values()), quiet_ends]


@pytest.mark.parametrize("trim", [True, False])
@pytest.mark.parametrize("name", FEATURES)
def test_spectrograms_equal_those_of_extraction(name: str, trim: bool) -> None:
    features = FEATURES[name].model_copy(update={"trim_db": 30.0})
    path = signal_path(features, trim)
    for num_samples in LENGTHS:
        batch = sounds(num_samples)
        mels = path(torch.from_numpy(np.stack(batch))).numpy()
        assert mels.shape == (len(batch), *features.shape)
        for samples, mel in zip(batch, mels, strict=True):
            expected = spectrogram(trim_silence(samples, 30.0) if trim else samples, features)
            # Spectrograms are rounded to float16: a value between two of them may become either.
            np.testing.assert_allclose(mel, expected.astype(np.float32), rtol=2**-10, atol=1e-3)
            assert np.mean(mel != expected) < 0.01


def test_settings_without_trimming_never_trim() -> None:
    features = FEATURES["power of two"].model_copy(update={"trim_db": None})
    samples = torch.from_numpy(np.concatenate([np.zeros(4000, np.float32), noise(0.2, RATE)]))[None]
    assert torch.equal(signal_path(features, True)(samples), signal_path(features, False)(samples))


def test_pure_tone_keeps_its_range() -> None:
    """Below a tone there is only rounding, which a less exact transform would raise."""
    features = FeatureConfig()
    samples = sine(440, 5.0, 22_050)
    mel = signal_path(features, True)(torch.from_numpy(samples)[None])[0].numpy()
    np.testing.assert_allclose(mel, spectrogram(samples, features).astype(np.float32), atol=0.07, rtol=0)


@pytest.mark.parametrize(
    ("size", "factors"), [(2048, (64, 32)), (400, (20, 20)), (254, (127, 2)), (7, (7, 1))]
)
def test_factors_of_a_size_differ_least(size: int, factors: tuple[int, int]) -> None:
    assert balanced_factors(size) == factors
