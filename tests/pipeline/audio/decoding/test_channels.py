"""Tests of mixing channels down to one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.audio.decode import decode
from pipeline.audio.decoding.channels import mix_down
from pipeline.audio.decoding.stream_reader import BLOCK_FRAMES, STREAM_FRAMES
from tests.helpers.audio_formats import RATE, encode, noise, rms, sine

Y, Z, W = (noise(seed=seed) for seed in range(3))
ZERO = np.zeros_like(Y)


def decode_channels(*channels: np.ndarray) -> tuple[np.ndarray, list[str]]:
    warnings: list[str] = []
    content = encode(np.stack(channels, axis=1), subtype="FLOAT")
    return decode(content, RATE, on_warning=warnings.append), warnings


@pytest.mark.parametrize(
    "channels",
    [
        (Y, Z),
        (Y, Y),
        (Y, 0.1 * Z),
        (Y, 0.01 * Z),
        (Y, 0.9 * Y + 0.1 * Z),
        (Y, np.roll(Y, 3)),
        (Y, -np.roll(Y, 3)),
        (Y, Z - 0.3 * Y),
        (Y, Z, W),
        (Y, Z, 0.01 * W, -0.01 * W),
    ],
)
def test_decode_ordinary_channels_are_averaged(channels: tuple[np.ndarray, ...]):
    samples, warnings = decode_channels(*channels)
    assert warnings == []
    stacked = np.stack(channels, axis=1).astype(np.float32)
    np.testing.assert_array_equal(samples, stacked.mean(axis=1, dtype=np.float32))


@pytest.mark.parametrize("inverse", [-Y, -0.9 * Y, -1.2 * Y, -0.5 * Y, 0.1 * Z - Y, 0.3 - Y])
def test_decode_opposite_phase_takes_loudest_channel(inverse: np.ndarray):
    samples, (warning,) = decode_channels(Y, inverse)
    loudest = int(inverse.std() > 1.1 * Y.std())
    np.testing.assert_array_equal(samples, (Y, inverse.astype(np.float32))[loudest])
    assert warning == f"the channels cancel out: channel {loudest + 1} of 2 is used"


@pytest.mark.parametrize("silent", [ZERO, ZERO + 0.5, 0.0005 * Z])
def test_decode_silent_channel_is_not_used(silent: np.ndarray):
    for channels, number in (((Y, silent), 2), ((silent, Y), 1)):
        samples, warnings = decode_channels(*channels)
        np.testing.assert_array_equal(samples, Y)
        assert warnings == [f"silent channels of 2, not used: {number}"]


def test_decode_surround_without_low_frequencies_averages_others():
    samples, warnings = decode_channels(Y, Z, W, ZERO, 0.5 * Y, ZERO)
    np.testing.assert_allclose(samples, (1.5 * Y + Z + W) / 4, atol=1e-6)
    assert warnings == ["silent channels of 6, not used: 4, 6"]


def test_decode_pair_that_cancels_among_others_is_noticed():
    for channels in ((Y, -Y, Z), (Y, Z, W, -Y), tuple(np.roll(sine(500.0), 16 * k // 3) for k in range(3))):
        samples, (warning,) = decode_channels(*channels)
        assert rms(samples) > 0.9 * rms(channels[0])
        assert warning.startswith("the channels cancel out: ")


def test_decode_tone_delayed_half_period_is_kept():
    samples, (warning,) = decode_channels(sine(1000.0), np.roll(sine(1000.0), 4))
    assert rms(samples) == pytest.approx(rms(sine(1000.0)), rel=1e-3)
    assert "cancel" in warning


def test_decode_all_silent_channels_warns_once():
    assert decode_channels(ZERO, ZERO)[1] == ["digital silence: every sample is zero"]


@pytest.mark.parametrize("rate", [RATE, 4000])
def test_decode_long_file_of_opposite_phase_is_kept(rate: int, tmp_path: Path):
    samples, warnings = noise(STREAM_FRAMES / RATE + 1), []
    assert samples.size > 16 * BLOCK_FRAMES
    soundfile.write(tmp_path / "long.wav", np.stack([samples, -samples], axis=1), RATE)
    decoded = decode(tmp_path / "long.wav", rate, on_warning=warnings.append)
    assert rms(decoded) == pytest.approx(0.1 * np.sqrt(rate / RATE), rel=0.1)
    assert warnings == ["the channels cancel out: channel 1 of 2 is used"]


@pytest.mark.parametrize("channels", range(1, 12))
def test_mix_down_equals_numpy_mean(channels: int):
    block = np.random.default_rng(0).standard_normal((10_000, channels)).astype(np.float32)
    np.testing.assert_array_equal(
        mix_down(np.ascontiguousarray(block.T)), block.mean(axis=1, dtype=np.float32)
    )
