"""Clips on a page: pixels and axes of spectrograms, color scales, and audio as data URIs."""

from __future__ import annotations

import base64
import io

import librosa
import numpy as np
import pytest
import soundfile
from PIL import Image

from pipeline.audio.features import FeatureConfig
from pipeline.audio.features import spectrogram as compute_spectrogram
from pipeline.audio.mel import MelConfig
from pipeline.audio.synthesize import synthesize_clip
from pipeline.audio.waveform import fix_length
from pipeline.report.clips import (
    NUM_COLORS,
    audio_data_uri,
    color_bar,
    decibel_scale,
    frequency_ticks,
    spectrogram,
    spectrogram_data_uri,
    time_ticks,
)
from tests.helpers.sounds import RATE, tone


def decode_image(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"))))


def decode_audio(uri: str) -> tuple[np.ndarray, int, str]:
    """Return samples, sample rate and MIME type."""
    header, _, text = uri.partition(";base64,")
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(text)), dtype="float32")
    return samples, rate, header.removeprefix("data:")


def test_image_has_low_bands_below_and_clips_to_scale() -> None:
    mel = np.array([[-100.0, -80.0, np.nan], [-40.0, 0.0, 20.0]], np.float16)
    image = decode_image(spectrogram_data_uri(mel, (-80.0, 0.0)))
    assert image.mode == "P"
    assert np.asarray(image).tolist() == [[NUM_COLORS // 2, NUM_COLORS - 1, NUM_COLORS - 1], [0, 0, 0]]


def test_large_spectrogram_is_averaged() -> None:
    mel = np.tile(np.repeat([-80.0, 0.0], 5000), (512, 1))
    image = np.asarray(decode_image(spectrogram_data_uri(mel, (-80.0, 0.0))))
    assert image.shape == (160, 400)
    assert (image[:, :200] == 0).all()
    assert (image[:, 200:] == NUM_COLORS - 1).all()


def test_scale_ends_at_the_maximum_level() -> None:
    assert decibel_scale([np.full((2, 2), -7.0), np.full((3, 4), -33.0, np.float16)]) == (-85.0, -5.0)
    assert decibel_scale([]) == (-80.0, 0.0)
    assert decibel_scale([np.full((2, 2), np.nan)]) == (-80.0, 0.0)


def test_color_bar_covers_the_scale() -> None:
    bar = color_bar((-85.0, -5.0))
    colors = np.asarray(decode_image(bar.image))[0].tolist()
    assert colors == sorted(colors) and set(colors) == set(range(NUM_COLORS))
    assert bar.values == ["−85", "−65", "−45", "−25", "−5"]
    assert bar.description == "Colors from -85 dB (dark) to -5 dB (light)"


@pytest.mark.parametrize(
    "config",
    [MelConfig(), MelConfig(sample_rate=44_100, n_mels=64, fmin=50, fmax=16_000), MelConfig(n_mels=20)],
)
def test_frequency_ticks_match_the_bands_of_librosa(config: MelConfig) -> None:
    top = config.fmax or config.sample_rate / 2
    centers = librosa.mel_frequencies(config.n_mels + 2, fmin=config.fmin, fmax=top)[1:-1]
    ticks = frequency_ticks(config, config.n_mels)
    assert len(ticks) >= 5
    for hertz, position in ticks:
        # Frequency is almost linear within a band.
        expected = (np.interp(hertz, centers, np.arange(config.n_mels)) + 0.5) / config.n_mels
        if centers[0] <= hertz <= centers[-1]:
            assert position == pytest.approx(expected, abs=0.01)


def test_time_ticks_are_within_the_image() -> None:
    config = MelConfig()
    frames = config.num_frames(5 * 22_050)
    assert [seconds for seconds, _ in time_ticks(config, frames)] == [0, 1, 2, 3, 4, 5]
    assert all(0 < position <= 1 for _, position in time_ticks(config, frames))
    assert time_ticks(config, 1)[0][0] == 0


def test_spectrogram_has_an_image_and_axes() -> None:
    config = MelConfig()
    mel = np.full((config.n_mels, config.num_frames(5 * 22_050)), -20.0)
    plot = spectrogram(mel, config, (-80.0, 0.0))
    assert decode_image(plot.image).size == mel.shape[::-1]
    assert [text for _, text in plot.times] == ["0", "1", "2", "3", "4", "5"]
    assert [text for _, text in plot.frequencies][-3:] == ["2k", "4k", "8k"]
    for ticks in (plot.times, plot.frequencies):
        positions = [float(position) for position, _ in ticks]
        assert positions == sorted(positions) and positions[0] >= 0 and positions[-1] <= 100


@pytest.mark.parametrize(
    ("rate", "kind"), [(8000, "mpeg"), (22_050, "mpeg"), (48_000, "mpeg"), (9000, "wav"), (96_000, "wav")]
)
@pytest.mark.parametrize("size", [1, 1000, 30_000])
def test_audio_survives_encoding(rate: int, kind: str, size: int) -> None:
    samples = tone(400.0, rate=rate, seconds=5.0)[:size]
    decoded, decoded_rate, mime_type = decode_audio(audio_data_uri(samples, rate))
    assert (decoded.size, decoded_rate, mime_type) == (size, rate, f"audio/{kind}")
    if size > 1000:
        assert np.corrcoef(samples, decoded)[0, 1] > 0.99


def test_audio_without_mp3_encoder_is_wav(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.report.clips.MP3_RATES", ())
    samples = tone(400.0)
    decoded, rate, mime_type = decode_audio(audio_data_uri(samples, RATE))
    assert (rate, mime_type) == (RATE, "audio/wav")
    np.testing.assert_allclose(decoded, samples, atol=1e-4)


def test_values_that_crash_the_encoder_are_clipped() -> None:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 22_050).astype(np.float32)
    samples[5000:5400] = np.repeat([np.nan, np.inf, -np.inf, 1e30], 100)
    assert np.isfinite(decode_audio(audio_data_uri(samples, 22_050))[0]).all()


def test_compression_keeps_the_spectrogram() -> None:
    features = FeatureConfig()
    samples = fix_length(synthesize_clip("bell_struck", np.random.default_rng(0)), features.num_samples)
    uri = audio_data_uri(samples, features.mel.sample_rate)
    decoded = compute_spectrogram(decode_audio(uri)[0], features).astype(np.float32)
    assert np.abs(decoded - compute_spectrogram(samples, features)).mean() < 1.0
    assert len(uri) < 60_000
