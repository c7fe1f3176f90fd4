"""Tests of log-mel spectrograms: equal to librosa's on any signal."""

from __future__ import annotations

import warnings
from pathlib import Path

import librosa
import numpy as np
import pytest

from models.config import ConfigError
from pipeline.audio.decode import decode
from pipeline.audio.mel import CHUNK_FRAMES, LogMel, MelConfig, log_mel
from tests.helpers.audio_formats import noise, sine

RATE = 22_050
SOUNDS = {
    "silence": np.zeros(RATE, np.float32),
    "one sample": np.float32([0.7]),
    "one sample of silence": np.float32([0.0]),
    "direct current": np.full(RATE, 0.9, np.float32),
    "full-scale square": np.sign(sine(441.0, rate=RATE)).astype(np.float32),
    "full-scale sine": sine(1000.0, rate=RATE, level=1.0),
    "beyond full scale": sine(1000.0, rate=RATE, level=40.0),
    "noise at -90 dB": noise(rate=RATE, level=10**-4.5),
    "click in silence": np.float32([0] * 3000 + [1] + [0] * 5000),
    "odd length": noise(1.2345, rate=RATE),
    "shorter than a window": noise(0.01, rate=RATE),
    "one sample short of a hop": noise(rate=RATE)[: 512 * 10 - 1],
    "whole hops": noise(rate=RATE)[: 512 * 10],
    "several chunks": noise(4.0, rate=RATE),
    "one frame more than a chunk": noise(2.0, rate=RATE)[: 512 * CHUNK_FRAMES],
    "zero-padded": np.concatenate([noise(0.5, rate=RATE), np.zeros(3 * RATE, np.float32)]),
    "silence around a click": np.float32([0] * 40_000 + [1] + [0] * 50_000),
}
CONFIGS = {
    "default": MelConfig(),
    "unlimited range": MelConfig(top_db=None),
    "40 bands": MelConfig(n_mels=40),
    "speech": MelConfig(sample_rate=16_000, n_fft=400, hop_length=160, n_mels=40),
    "band": MelConfig(fmin=300.0, fmax=6000.0, top_db=60.0),
    "gaps between windows": MelConfig(n_fft=512, hop_length=700, n_mels=16),
    "one band": MelConfig(n_mels=1),
    "more bands than frequencies": MelConfig(n_fft=64, hop_length=32, n_mels=512),
}


def reference(samples: np.ndarray, config: MelConfig) -> np.ndarray:
    settings = config.to_dict()
    top_db, rate = settings.pop("top_db"), settings.pop("sample_rate")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # windows longer than the signal
        power = librosa.feature.melspectrogram(y=samples, sr=rate, **settings)
    return librosa.power_to_db(power, ref=1.0, top_db=top_db)


@pytest.mark.filterwarnings("ignore:Empty filters")  # expected for "more bands than frequencies"
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
@pytest.mark.parametrize("samples", SOUNDS.values(), ids=SOUNDS.keys())
def test_log_mel_matches_librosa(samples: np.ndarray, config: MelConfig):
    actual, expected = LogMel(config)(samples), reference(samples, config)
    assert actual.dtype == np.float32
    assert actual.shape == expected.shape == (config.n_mels, config.num_frames(samples.size))
    audible = expected > expected.max() - 75.0
    assert np.abs(actual - expected)[audible].max() < 1e-3
    # Below that, single precision limits the accuracy.
    actual, expected = (10 ** (decibel.astype(np.float64) / 20) for decibel in (actual, expected))
    assert (np.abs(actual - expected)[~audible] < 1e-7 * expected.max()).all()


def test_log_mel_matches_librosa_on_recordings(esc10: list[Path]):
    for path in esc10[::40]:
        samples = decode(path, RATE)
        assert np.abs(LogMel(MelConfig())(samples) - reference(samples, MelConfig())).max() < 1e-3


def test_log_mel_floor_and_scale_are_decibels():
    np.testing.assert_allclose(LogMel(MelConfig())(np.zeros(5000, np.float32)), -100.0, rtol=1e-6)
    mel = LogMel(MelConfig(top_db=None))
    loud = noise(rate=RATE)
    np.testing.assert_allclose(mel(loud * np.float32(0.1)), mel(loud) - 20.0, atol=1e-3)


def test_log_mel_range_is_limited_by_top_db():
    samples = np.concatenate([sine(1000.0, rate=RATE, level=1.0), np.zeros(RATE, np.float32)])
    for top_db in (20.0, 80.0):
        mel = LogMel(MelConfig(top_db=top_db))(samples)
        assert mel.max() - mel.min() == pytest.approx(top_db, abs=1e-4)


def test_log_mel_tone_peaks_in_its_band():
    config = MelConfig()
    centers = librosa.mel_frequencies(n_mels=config.n_mels + 2, fmax=RATE / 2)[1:-1]
    for frequency in (300.0, 1000.0, 5000.0):
        loudest = LogMel(config)(sine(frequency, rate=RATE)).mean(axis=1).argmax()
        assert loudest == np.abs(centers - frequency).argmin()


@pytest.mark.parametrize(("samples", "frames"), [(1, 1), (511, 1), (512, 2), (513, 2), (110_250, 216)])
def test_num_frames_matches_log_mel(samples: int, frames: int):
    assert MelConfig().num_frames(samples) == frames
    assert LogMel(MelConfig())(np.zeros(samples, np.float32)).shape == (128, frames)


@pytest.mark.parametrize("dtype", [np.float64, np.int16])
def test_log_mel_accepts_other_dtypes(dtype: type):
    samples = (noise(rate=RATE) * 1000).astype(np.int16)
    np.testing.assert_array_equal(
        LogMel(MelConfig())(samples.astype(dtype)), LogMel(MelConfig())(samples.astype(np.float32))
    )


def test_log_mel_keeps_its_input():
    samples = noise(rate=RATE)
    original = samples.copy()
    LogMel(MelConfig())(samples)
    np.testing.assert_array_equal(samples, original)


@pytest.mark.parametrize("shape", [(0,), (2, 1000), (1000, 1)])
def test_log_mel_invalid_shape_raises(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match="must have shape"):
        LogMel(MelConfig())(np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fmin": 5000.0, "fmax": 4000.0}, "need fmin < fmax"),
        ({"fmax": 20_000.0}, "need fmin < fmax"),
        ({"fmin": 11_025.0}, "need fmin < fmax"),
        ({"sample_rate": 0}, "'sample_rate' = 0"),
        ({"n_mels": 0}, "'n_mels' = 0"),
        ({"hop_length": 0}, "'hop_length' = 0"),
        ({"n_fft": 8}, "'n_fft' = 8"),
        ({"n_fft": 401}, "'n_fft' = 401"),  # an odd window gives one frame less than the formula
        ({"top_db": 0.0}, "'top_db' = 0"),
    ],
)
def test_config_invalid_value_raises(settings: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        MelConfig(**settings)


def test_log_mel_is_cached_per_configuration():
    assert log_mel(MelConfig(n_mels=7)) is log_mel(MelConfig(n_mels=7))
