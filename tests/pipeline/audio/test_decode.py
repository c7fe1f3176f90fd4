"""Tests of decoding to mono samples at one rate, of trimming and of fixing the length."""

from __future__ import annotations

import io
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
import soxr

from pipeline.audio.decode import decode
from pipeline.audio.decoding.stream_reader import BLOCK_FRAMES, STREAM_FRAMES
from pipeline.audio.waveform import fix_length, resample, trim_silence
from tests.helpers.audio_formats import (
    FORMATS,
    RATE,
    RATES,
    TONE_HZ,
    TONE_PEAK,
    clear_wav_length,
    drop_first_mp3_frame,
    encode,
    encode_mp3,
    noise,
    peak_frequency,
    rms,
    sine,
    write_valid_files,
)


@pytest.mark.parametrize(("name", "subtype"), FORMATS)
def test_decode_preserves_tone_in_every_format(name: str, subtype: str, tmp_path: Path):
    path = tmp_path / f"tone.{name.lower()}"
    soundfile.write(path, sine(), RATE, format=name, subtype=subtype)
    warnings: list[str] = []
    samples = decode(path, RATE, 1.0, warnings.append)
    assert warnings == []
    assert samples.dtype == np.float32
    # Block codecs pad the last block, which has up to 640 samples.
    assert RATE <= samples.size < RATE + 640
    assert peak_frequency(samples[:RATE], RATE) == pytest.approx(TONE_HZ, abs=1.0)
    assert rms(samples[:RATE]) == pytest.approx(TONE_PEAK / np.sqrt(2), rel=0.05)
    if name != "SD2":  # stores its header in a second file
        np.testing.assert_array_equal(decode(path.read_bytes(), RATE), samples)


@pytest.mark.parametrize(
    ("subtype", "step"),
    [("PCM_U8", 2**-7), ("PCM_16", 2**-15), ("PCM_24", 2**-23), ("PCM_32", 2**-23), ("FLOAT", 0)],
)
def test_decode_preserves_samples_within_quantization(subtype: str, step: float):
    samples = noise()
    assert np.abs(decode(encode(samples, subtype=subtype), RATE) - samples).max() <= step


@pytest.mark.parametrize("rate", RATES)
def test_decode_resamples_from_any_rate(rate: int):
    samples = decode(encode(sine(1000.0, 2.0, rate), rate=rate), 22_050)
    assert abs(samples.size - 44_100) <= 1
    assert peak_frequency(samples, 22_050) == pytest.approx(1000.0, abs=0.5)
    assert rms(samples[4000:-4000]) == pytest.approx(TONE_PEAK / np.sqrt(2), rel=2e-3)


def test_decode_removes_frequencies_above_nyquist():
    assert rms(decode(encode(sine(15_000.0, rate=48_000), rate=48_000), 16_000)[500:-500]) < 1e-4


@pytest.mark.parametrize("channels", range(1, 9))
def test_decode_averages_channels(channels: int):
    samples = np.stack([noise(seed=seed) for seed in range(channels)], axis=1)
    np.testing.assert_allclose(
        decode(encode(samples, subtype="FLOAT"), RATE), samples.mean(axis=1), atol=1e-7
    )


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000])
def test_decode_wav_of_unknown_length_is_complete(size: int):
    wav = encode(noise())
    np.testing.assert_array_equal(decode(clear_wav_length(wav, size), RATE), decode(wav, RATE))


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_decode_mp3_without_length_is_complete(mode: str, tmp_path: Path):
    path = tmp_path / "leading silence.mp3"
    silence = np.zeros(5 * RATE, np.float32)
    soundfile.write(
        path, np.concatenate([silence, noise(5.0)]), RATE, bitrate_mode=mode, compression_level=0.5
    )
    content = path.read_bytes()
    assert decode(content, RATE).size == 10 * RATE
    assert 10 * RATE <= decode(drop_first_mp3_frame(content), RATE).size < 10 * RATE + 2 * 1152


def test_mp3_of_low_bit_rate_has_no_errors_between_blocks():
    """Its frames need bytes of many previous ones, which the decoder lacks after a seek."""
    content = encode_mp3(noise(60.0, 16_000), 16_000, is_constant=False)
    expected, _ = soundfile.read(io.BytesIO(content), dtype="float32")
    assert expected.size > 3 * BLOCK_FRAMES
    np.testing.assert_allclose(decode(content, 16_000), expected, atol=1e-6)


def test_decode_ignores_trailing_bytes():
    for name, subtype in (
        ("WAV", "PCM_16"),
        ("AIFF", "PCM_16"),
        ("OGG", "VORBIS"),
        ("MP3", "MPEG_LAYER_III"),
    ):
        content = encode(noise(), name, subtype)
        assert decode(content + b"TAG" + bytes(125), RATE).size == RATE


def test_decode_single_sample_succeeds():
    assert decode(encode(np.float32([0.25])), RATE).tolist() == [0.25]
    for rate in (RATE, 192_000):
        assert decode(encode(np.float32([0.25]), rate=rate), 22_050).size >= 1


def test_decode_accepts_unusual_file_names(tmp_path: Path):
    for path in write_valid_files(tmp_path / "à b"):
        samples = decode(path, RATE)
        assert samples.size == 1 if path.stem == "one sample" else samples.size == pytest.approx(RATE, abs=1)


def test_decode_streams_long_file_without_discontinuity(tmp_path: Path):
    path = tmp_path / "long.wav"
    samples = noise(600.0)
    assert samples.size > STREAM_FRAMES
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    streamed = decode(path, 11_025)
    expected = soxr.resample(samples, RATE, 11_025, quality="HQ")
    assert streamed.size == expected.size == 600 * 11_025
    assert np.abs(streamed - expected).max() < 1e-4
    np.testing.assert_array_equal(decode(path, RATE), samples)


def test_trim_silence_trims_ends_and_keeps_silent_clips():
    tone, silence = sine(seconds=1.0), np.zeros(4000, np.float32)
    trimmed = trim_silence(np.concatenate([silence, tone, silence]), 60.0)
    # librosa works in frames of 2048 and hops of 512.
    assert tone.size <= trimmed.size <= tone.size + 2 * 2048
    assert trim_silence(silence, 60.0).size == silence.size
    assert trim_silence(tone[:1], 60.0).size == 1
    quiet = np.concatenate([0.001 * tone, tone])  # 60 dB down
    assert trim_silence(quiet, 70.0).size == quiet.size
    assert trim_silence(quiet, 50.0).size < quiet.size - 5000


def test_fix_length_crops_or_pads():
    ramp = np.arange(10, dtype=np.float32)
    assert fix_length(ramp, 4).tolist() == [3, 4, 5, 6]
    assert fix_length(ramp, 10).tolist() == ramp.tolist()
    assert fix_length(ramp[:3], 5).tolist() == [0, 1, 2, 0, 0]
    rng = np.random.default_rng(0)
    starts = {int(fix_length(ramp, 4, rng)[0]) for _ in range(200)}
    assert starts == set(range(7))
    assert fix_length(ramp[:3], 5, rng).tolist() == [0, 1, 2, 0, 0]


def test_resample_equal_rates_is_identity():
    samples = noise()
    np.testing.assert_array_equal(resample(samples, RATE, RATE), samples)
    assert resample(samples[:0], RATE, 22_050).size == 0


def test_trim_silence_matches_librosa() -> None:
    rng = np.random.default_rng(0)
    for size in (1, 511, 512, 513, 2048, *rng.integers(1, 30_000, 50)):
        level = np.repeat(10 ** rng.uniform(-6, 0, size // 300 + 1), 300)[:size]
        samples = (rng.standard_normal(size) * level).astype(np.float32)
        for top_db in (20.0, 60.0):
            np.testing.assert_array_equal(
                trim_silence(samples, top_db), librosa.effects.trim(samples, top_db=top_db)[0]
            )
