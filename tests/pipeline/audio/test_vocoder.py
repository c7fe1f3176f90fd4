"""Tests of the vocoder: round-trip error, determinism regardless of the batch, and loudness normalization."""

from __future__ import annotations

from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.audio import vocoder as vocoder_module
from pipeline.audio.decode import decode
from pipeline.audio.loudness import MAX_PEAK, SILENCE_PEAK, normalize_loudness
from pipeline.audio.mel import MelConfig, log_mel
from pipeline.audio.synthesize import synthesize_clip
from pipeline.audio.vocoder import Vocoder, mel_to_audio
from pipeline.audio.waveform import fix_length
from tests.helpers.audio_formats import noise, peak_frequency, rms, sine
from tests.helpers.simulated_device import DEVICE, TO_DEVICE, simulated_device
from tests.helpers.sounds import tone

RATE = 22_050
LENGTH = 40_000
SPEECH = MelConfig(sample_rate=16_000, n_fft=400, hop_length=160, n_mels=40)
SMALL = MelConfig(sample_rate=8000, n_fft=256, hop_length=64, n_mels=32)

# Maximum round-trip error in dB: about 1.5 times the measured one.
SOUNDS = {
    "tone in noise": (tone(440.0, 2.0, RATE), 0.4),
    "noise": (noise(2.0, RATE), 0.15),
    "rain of clicks": (
        np.random.default_rng(1).binomial(1, 0.002, LENGTH).astype(np.float32) * np.float32(0.3),
        1.8,
    ),
    "chirp": (synthesize_clip("chirp_rising", np.random.default_rng(2), RATE), 0.25),
    "bell": (synthesize_clip("bell_struck", np.random.default_rng(3), RATE), 0.25),
    "engine": (synthesize_clip("engine", np.random.default_rng(4), RATE), 0.25),
}
CONFIGS = {
    "40 bands": (MelConfig(n_mels=40), 0.5),
    "64 bands, odd hop": (MelConfig(n_mels=64, hop_length=441), 0.6),
    "256 bands, short hop": (MelConfig(n_mels=256, hop_length=256), 0.6),
    "hop of half a window": (MelConfig(hop_length=1024), 0.25),
    "hop above half a window": (MelConfig(hop_length=1400), 0.4),
    "band": (MelConfig(n_fft=1024, hop_length=256, n_mels=80, fmin=300.0, fmax=6000.0), 0.7),
    "unlimited range": (MelConfig(top_db=None), 0.3),
    "60 dB": (MelConfig(top_db=60.0), 0.3),
    "speech": (SPEECH, 0.6),
    "gaps between windows": (MelConfig(n_fft=512, hop_length=700, n_mels=16), 3.0),
    "one band": (MelConfig(n_mels=1), 0.05),
    "empty bands": (MelConfig(n_fft=256, hop_length=64, n_mels=128), 1.3),
}


def error(samples: np.ndarray, mel: np.ndarray, config: MelConfig) -> float:
    """Return the mean absolute log-mel difference in dB, each limited to `top_db` below its maximum."""
    actual, expected = (
        np.maximum(m, m.max() - (config.top_db or 80.0)) for m in (log_mel(config)(samples), mel)
    )
    return float(np.abs(actual - expected).mean())


def by_librosa(mel: np.ndarray, config: MelConfig, num_samples: int) -> np.ndarray:
    settings = config.to_dict()
    del settings["n_mels"], settings["top_db"]
    settings["sr"] = settings.pop("sample_rate")
    np.random.seed(0)
    # Powers of any smallness would slow its least squares down; `error` does not see them.
    power = librosa.db_to_power(np.maximum(mel, mel.max() - 80.0))
    return librosa.feature.inverse.mel_to_audio(
        power, n_iter=32, length=num_samples, pad_mode="constant", **settings
    )


def small_mels(count: int) -> Tensor:
    """Compute spectrograms of one second each, in float16 as in shards."""
    clips = [tone(300.0 * (i + 1), seed=i) for i in range(count)]
    return torch.from_numpy(np.stack([log_mel(SMALL)(clip) for clip in clips]).astype(np.float16))


@pytest.mark.parametrize(("samples", "max_error"), SOUNDS.values(), ids=SOUNDS.keys())
def test_round_trip_error_is_small(samples: np.ndarray, max_error: float):
    mel = log_mel(MelConfig())(samples * np.float32(0.5))
    out = mel_to_audio(mel, MelConfig(), samples.size)
    assert out.dtype == np.float32
    assert out.shape == samples.shape
    assert error(out, mel, MelConfig()) < max_error


@pytest.mark.filterwarnings("ignore:Empty filters")
@pytest.mark.parametrize(("config", "max_error"), CONFIGS.values(), ids=CONFIGS.keys())
def test_round_trip_error_is_small_for_other_settings(config: MelConfig, max_error: float):
    # The length is not a multiple of the hop length.
    samples = tone(500.0, 1.3, config.sample_rate)[: 1 - config.hop_length]
    mel = log_mel(config)(samples)
    out = mel_to_audio(mel, config, samples.size)
    assert out.shape == samples.shape
    assert error(out, mel, config) < max_error
    assert error(out, mel, config) < error(by_librosa(mel, config, samples.size), mel, config)
    # No spikes where windows hardly overlap; librosa's exceed the samples 4000-fold.
    assert np.abs(out).max() < 3 * np.abs(samples).max()


def test_round_trip_error_is_half_of_librosa(esc10: list[Path]):
    for path in esc10[7::150]:
        samples = fix_length(decode(path, RATE), 3 * RATE)
        # Low enough that librosa's result does not clip and melray's is not attenuated.
        samples *= np.float32(0.3) / np.abs(samples).max()
        mel = log_mel(MelConfig())(samples)
        own_error = error(mel_to_audio(mel, MelConfig(), samples.size), mel, MelConfig())
        librosa_error = error(by_librosa(mel, MelConfig(), samples.size), mel, MelConfig())
        assert own_error < 0.5 * librosa_error


@pytest.mark.parametrize("num_samples", [1, 100, 511, 512, 1500, 2048, 2049])
def test_round_trip_shorter_than_a_window(num_samples: int):
    samples = noise(rate=RATE)[:num_samples]
    mel = log_mel(MelConfig())(samples)
    out = mel_to_audio(mel, MelConfig(), num_samples)
    assert out.shape == (num_samples,)
    assert error(out, mel, MelConfig()) < 1.0


def test_tone_keeps_pitch_and_level():
    samples = sine(1000.0, 2.0, RATE, level=0.2)
    out = mel_to_audio(log_mel(MelConfig())(samples), MelConfig(), samples.size)
    assert peak_frequency(out, RATE) == pytest.approx(1000.0, rel=0.03)  # a band is 4 % wide
    assert 20 * np.log10(rms(out) / rms(samples)) == pytest.approx(0.0, abs=0.5)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_silence_around_a_sound_is_preserved(dtype: type):
    samples = np.zeros(LENGTH, np.float32)
    samples[15_000:20_000] = noise(rate=RATE)[:5000]
    mel = log_mel(MelConfig())(samples).astype(dtype)
    out = mel_to_audio(mel, MelConfig(), LENGTH)
    # The floor of the spectrogram is at -80 dB, an amplitude of 1e-4.
    assert rms(out[:12_000]) < 1e-5 * rms(samples[15_000:20_000])
    assert rms(out[23_000:]) < 1e-5 * rms(samples[15_000:20_000])


def test_error_decreases_with_iterations():
    mel = log_mel(MelConfig())(tone(440.0, 2.0, RATE))
    errors = [
        error(mel_to_audio(mel, MelConfig(), 2 * RATE, iterations=n), mel, MelConfig())
        for n in (1, 4, 16, 64)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.2 * errors[0]


def test_batch_equals_single_clips_bit_for_bit():
    mel_BMT, vocoder = small_mels(5), Vocoder(SMALL, iterations=4)
    seeds = [3, 1, 4, 1, 5]
    batch = vocoder(mel_BMT, 8000, seeds)
    assert batch.dtype == torch.float32
    assert batch.shape == (5, 8000)
    singles = torch.cat([vocoder(mel_BMT[i : i + 1], 8000, seeds[i]) for i in range(5)])
    assert torch.equal(batch, singles)
    assert torch.equal(batch.flip(0), vocoder(mel_BMT.flip(0), 8000, seeds[::-1]))
    assert torch.equal(
        batch[1], torch.from_numpy(mel_to_audio(mel_BMT[1].numpy(), SMALL, 8000, iterations=4, seed=1))
    )


def test_joint_synthesis_equals_single_clips():
    # A GPU processes the whole batch in one array.
    mel_BMT, vocoder = small_mels(3), Vocoder(SMALL, iterations=4)
    joint = vocoder._synthesize(mel_BMT.float(), 8000, [0, 1, 2])
    torch.testing.assert_close(joint, vocoder(mel_BMT, 8000, [0, 1, 2]), atol=1e-4, rtol=0)


def test_samples_depend_on_the_seed():
    mel_BMT, vocoder = small_mels(1).expand(3, -1, -1), Vocoder(SMALL, iterations=4)
    first = vocoder(mel_BMT, 8000, [7, 7, 8])
    assert torch.equal(first[0], first[1])
    assert not torch.allclose(first[0], first[2], atol=0.01)
    assert torch.equal(first[:2], vocoder(mel_BMT[:2], 8000, 7))


@pytest.mark.parametrize("per_batch", [1, 2, 10])
def test_batches_on_device_give_clips_of_cpu(per_batch: int, monkeypatch: pytest.MonkeyPatch):
    mel_BMT = small_mels(5)
    expected = Vocoder(SMALL, iterations=4)(mel_BMT, 8000, range(5))
    values = SMALL.num_frames(8000) * (SMALL.n_fft // 2 + 1)
    monkeypatch.setattr(vocoder_module, "MAX_BATCH_VALUES", per_batch * values)
    with simulated_device() as copies:
        vocoder = Vocoder(SMALL, iterations=4, device=DEVICE)
        copies.clear()
        samples = vocoder(mel_BMT, 8000, range(5))
        # Spectrograms and noise of each batch; nothing waits for the device.
        assert copies == {TO_DEVICE: 2 * -(-5 // per_batch)}
        np.testing.assert_allclose(samples.cpu().numpy(), expected.numpy(), atol=1e-4)


def test_vocoder_keeps_its_input():
    mel_BMT = small_mels(1).float()
    original = mel_BMT.clone()
    Vocoder(SMALL, iterations=1)(mel_BMT, 8000)
    assert torch.equal(mel_BMT, original)


@pytest.mark.parametrize("top_db", [80.0, None])
def test_silent_spectrogram_becomes_zeros(top_db: float | None):
    config = MelConfig(top_db=top_db)
    mel = log_mel(config)(np.zeros(LENGTH, np.float32))
    for kind in (np.float32, np.float16):
        out = mel_to_audio(mel.astype(kind), config, LENGTH)
        assert out.shape == (LENGTH,)
        assert not out.any()


@pytest.mark.parametrize("level", [1e-3, 0.5])
def test_levels_are_preserved(level: float):
    samples = noise(rate=RATE, level=level / 5)
    out = mel_to_audio(log_mel(MelConfig())(samples), MelConfig(), samples.size)
    assert 20 * np.log10(rms(out) / rms(samples)) == pytest.approx(0.0, abs=0.3)


@pytest.mark.parametrize("decibel", [70.0, 120.0, 500.0])
def test_clipping_clip_is_attenuated(decibel: float):
    mel = np.random.default_rng(0).uniform(-60.0, -40.0, (32, 126)).astype(np.float32)
    out, loud = (mel_to_audio(m, SMALL, 8000) for m in (mel, mel + np.float32(decibel)))
    assert np.abs(out).max() < MAX_PEAK
    assert np.abs(loud).max() == pytest.approx(MAX_PEAK, rel=1e-6)
    # Equal except for the level.
    np.testing.assert_allclose(loud / MAX_PEAK, out / np.abs(out).max(), atol=0.02)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nonfinite_spectrogram_raises(value: float):
    mel_BMT = small_mels(3)
    mel_BMT[1, 5, 7] = value
    with pytest.raises(ValueError, match=r"spectrogram 1 of 3 .*not finite"):
        Vocoder(SMALL)(mel_BMT, 8000)


@pytest.mark.parametrize(
    ("shape", "num_samples", "seed", "message"),
    [
        ((32, 126), 8000, 0, r"shape \(B, 32, 126\), got \(32, 126\)"),
        ((1, 31, 126), 8000, 0, r"shape \(B, 32, 126\)"),
        ((1, 32, 125), 8000, 0, r"shape \(B, 32, 126\)"),
        ((1, 32, 1), 0, 0, "0 samples"),
        ((2, 32, 126), 8000, [1], r"need one seed per spectrogram \(2\), got 1"),
    ],
)
def test_vocoder_invalid_input_raises(
    shape: tuple[int, ...], num_samples: int, seed: int | list[int], message: str
):
    with pytest.raises(ValueError, match=message):
        Vocoder(SMALL)(torch.zeros(shape), num_samples, seed)


def test_vocoder_zero_iterations_raises():
    with pytest.raises(ValueError, match="iterations must be at least 1, got 0"):
        Vocoder(SMALL, iterations=0)


def test_vocoder_empty_batch_gives_no_samples():
    assert Vocoder(SMALL)(torch.zeros(0, 32, 126), 8000).shape == (0, 8000)


def test_normalize_loudness_amplifies_quiet_and_attenuates_loud():
    speech = noise(rate=RATE, level=0.1)
    quiet, loud = speech * np.float32(0.01), speech * np.float32(30.0)
    click, hiss = np.zeros_like(speech), noise(rate=RATE, level=SILENCE_PEAK / 10)
    click[1000] = 0.1
    samples_BN = torch.from_numpy(np.stack([speech, quiet, loud, click, hiss, np.zeros_like(speech)]))
    original = samples_BN.clone()
    out = normalize_loudness(samples_BN, RATE).numpy()
    assert torch.equal(samples_BN, original)
    np.testing.assert_array_equal(out[0], speech)
    assert 20 * np.log10(rms(out[1])) == pytest.approx(-26.0, abs=0.3)
    assert np.abs(out[2]).max() == pytest.approx(MAX_PEAK, rel=1e-6)
    # The RMS of a click is low, but amplification is limited by the peak.
    assert np.abs(out[3]).max() == pytest.approx(MAX_PEAK, rel=1e-6)
    np.testing.assert_array_equal(out[4], hiss)
    assert not out[5].any()


def test_normalize_loudness_measures_the_loudest_window():
    samples = np.zeros(10 * RATE, np.float32)
    sound = slice(int(3.3 * RATE), int(3.7 * RATE))
    samples[sound] = noise(rate=RATE, level=1e-3)[: int(3.7 * RATE) - int(3.3 * RATE)]
    out = normalize_loudness(torch.from_numpy(samples)[None], RATE)[0].numpy()
    assert 20 * np.log10(rms(out[sound])) == pytest.approx(-26.0, abs=0.3)
    assert np.isfinite(normalize_loudness(torch.full((1, 3), 0.01), RATE)).all()
