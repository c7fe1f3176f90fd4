"""From picture to sound: what is heard has the picture's spectrogram, whoever else is in the batch."""

from __future__ import annotations

from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.audio.decode import decode, fix_length
from pipeline.audio.mel import MelConfig, log_mel
from pipeline.audio.synthesize import synthesize_clip
from pipeline.audio.vocoder import PEAK, SILENCE_PEAK, Vocoder, mel_to_audio, normalize_loudness
from tests.helpers.audio_formats import noise, peak_hertz, rms, sine
from tests.helpers.sounds import tone

RATE = 22_050
LENGTH = 40_000
SPEECH = MelConfig(sample_rate=16_000, n_fft=400, hop_length=160, n_mels=40)
SMALL = MelConfig(sample_rate=8000, n_fft=256, hop_length=64, n_mels=32)

# Greatest error in dB that a round trip may leave: about one and a half times what it leaves.
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
    "all that is there": (MelConfig(top_db=None), 0.3),
    "60 dB": (MelConfig(top_db=60.0), 0.3),
    "speech": (SPEECH, 0.6),
    "gaps between windows": (MelConfig(n_fft=512, hop_length=700, n_mels=16), 3.0),
    "one band": (MelConfig(n_mels=1), 0.05),
    "bands that are empty": (MelConfig(n_fft=256, hop_length=64, n_mels=128), 1.3),
}


def error(samples: np.ndarray, mel: np.ndarray, config: MelConfig) -> float:
    """Mean absolute difference of log-mel spectrograms in dB, both cut off `top_db` below their loudest value."""
    got, want = (np.maximum(m, m.max() - (config.top_db or 80.0)) for m in (log_mel(config)(samples), mel))
    return float(np.abs(got - want).mean())


def by_librosa(mel: np.ndarray, config: MelConfig, num_samples: int) -> np.ndarray:
    settings = config.to_dict()
    del settings["n_mels"], settings["top_db"]
    settings["sr"] = settings.pop("sample_rate")
    np.random.seed(0)
    power = librosa.db_to_power(mel)
    return librosa.feature.inverse.mel_to_audio(
        power, n_iter=32, length=num_samples, pad_mode="constant", **settings
    )


def small_mels(count: int) -> Tensor:
    """Spectrograms of a second each, as in shards."""
    clips = [tone(300.0 * (i + 1), seed=i) for i in range(count)]
    return torch.from_numpy(np.stack([log_mel(SMALL)(clip) for clip in clips]).astype(np.float16))


@pytest.mark.parametrize(("samples", "most"), SOUNDS.values(), ids=SOUNDS.keys())
def test_round_trip(samples: np.ndarray, most: float):
    mel = log_mel(MelConfig())(samples * np.float32(0.5))
    out = mel_to_audio(mel, MelConfig(), samples.size)
    assert out.dtype == np.float32
    assert out.shape == samples.shape
    assert error(out, mel, MelConfig()) < most


@pytest.mark.filterwarnings("ignore:Empty filters")
@pytest.mark.parametrize(("config", "most"), CONFIGS.values(), ids=CONFIGS.keys())
def test_round_trip_in_other_settings(config: MelConfig, most: float):
    samples = tone(500.0, 1.3, config.sample_rate)[
        : 1 - config.hop_length
    ]  # a length that is no whole number of hops
    mel = log_mel(config)(samples)
    out = mel_to_audio(mel, config, samples.size)
    assert out.shape == samples.shape
    assert error(out, mel, config) < most
    assert error(out, mel, config) < error(by_librosa(mel, config, samples.size), mel, config)
    assert (
        np.abs(out).max() < 3 * np.abs(samples).max()
    )  # no spikes where windows hardly overlap: librosa's have 4000


def test_error_is_less_than_half_of_librosas(esc10: list[Path]):
    for path in esc10[7::150]:
        samples = fix_length(decode(path, RATE), 3 * RATE)
        samples *= (
            np.float32(0.3) / np.abs(samples).max()
        )  # librosa's would go beyond full scale, ours be made quieter
        mel = log_mel(MelConfig())(samples)
        ours, librosas = (
            mel_to_audio(mel, MelConfig(), samples.size),
            by_librosa(mel, MelConfig(), samples.size),
        )
        assert error(ours, mel, MelConfig()) < 0.5 * error(librosas, mel, MelConfig())


@pytest.mark.parametrize("num_samples", [1, 100, 511, 512, 1500, 2048, 2049])
def test_sounds_shorter_than_a_window(num_samples: int):
    samples = noise(rate=RATE)[:num_samples]
    mel = log_mel(MelConfig())(samples)
    out = mel_to_audio(mel, MelConfig(), num_samples)
    assert out.shape == (num_samples,)
    assert error(out, mel, MelConfig()) < 1.0


def test_a_tone_keeps_its_pitch_and_level():
    samples = sine(1000.0, 2.0, RATE, level=0.2)
    out = mel_to_audio(log_mel(MelConfig())(samples), MelConfig(), samples.size)
    assert peak_hertz(out, RATE) == pytest.approx(1000.0, rel=0.03)  # a band is 4 % wide
    assert 20 * np.log10(rms(out) / rms(samples)) == pytest.approx(0.0, abs=0.5)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_silence_around_a_sound_stays_silent(dtype: type):
    samples = np.zeros(LENGTH, np.float32)
    samples[15_000:20_000] = noise(rate=RATE)[:5000]
    mel = log_mel(MelConfig())(samples).astype(dtype)
    out = mel_to_audio(mel, MelConfig(), LENGTH)
    # The spectrogram's floor is 80 dB down, which would be 1e-4.
    assert rms(out[:12_000]) < 1e-5 * rms(samples[15_000:20_000])
    assert rms(out[23_000:]) < 1e-5 * rms(samples[15_000:20_000])


def test_more_iterations_leave_less_error():
    mel = log_mel(MelConfig())(tone(440.0, 2.0, RATE))
    errors = [
        error(mel_to_audio(mel, MelConfig(), 2 * RATE, iterations=n), mel, MelConfig())
        for n in (1, 4, 16, 64)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.2 * errors[0]


def test_batch_equals_singles_bit_for_bit():
    mel_BMT, vocoder = small_mels(5), Vocoder(SMALL, iterations=4)
    seeds = [3, 1, 4, 1, 5]
    together = vocoder(mel_BMT, 8000, seeds)
    assert together.dtype == torch.float32
    assert together.shape == (5, 8000)
    alone = torch.cat([vocoder(mel_BMT[i : i + 1], 8000, seeds[i]) for i in range(5)])
    assert torch.equal(together, alone)
    assert torch.equal(together.flip(0), vocoder(mel_BMT.flip(0), 8000, seeds[::-1]))
    assert torch.equal(
        together[1], torch.from_numpy(mel_to_audio(mel_BMT[1].numpy(), SMALL, 8000, iterations=4, seed=1))
    )


def test_clips_worked_on_at_once_come_out_alike():
    # As a GPU does it: all of a batch in one array.
    mel_BMT, vocoder = small_mels(3), Vocoder(SMALL, iterations=4)
    at_once = vocoder._sound(mel_BMT.float(), 8000, [0, 1, 2])
    torch.testing.assert_close(at_once, vocoder(mel_BMT, 8000, [0, 1, 2]), atol=1e-4, rtol=0)


def test_a_seed_is_a_sound():
    mel_BMT, vocoder = small_mels(1).expand(3, -1, -1), Vocoder(SMALL, iterations=4)
    first = vocoder(mel_BMT, 8000, [7, 7, 8])
    assert torch.equal(first[0], first[1])
    assert not torch.allclose(first[0], first[2], atol=0.01)
    assert torch.equal(first[:2], vocoder(mel_BMT[:2], 8000, 7))


def test_input_is_not_changed():
    mel_BMT = small_mels(1).float()
    before = mel_BMT.clone()
    Vocoder(SMALL, iterations=1)(mel_BMT, 8000)
    assert torch.equal(mel_BMT, before)


@pytest.mark.parametrize("top_db", [80.0, None])
def test_silence_becomes_zeros(top_db: float | None):
    config = MelConfig(top_db=top_db)
    mel = log_mel(config)(np.zeros(LENGTH, np.float32))
    for kind in (np.float32, np.float16):
        out = mel_to_audio(mel.astype(kind), config, LENGTH)
        assert out.shape == (LENGTH,)
        assert not out.any()


@pytest.mark.parametrize("level", [1e-3, 0.5])
def test_levels_are_kept(level: float):
    samples = noise(rate=RATE, level=level / 5)
    out = mel_to_audio(log_mel(MelConfig())(samples), MelConfig(), samples.size)
    assert 20 * np.log10(rms(out) / rms(samples)) == pytest.approx(0.0, abs=0.3)


@pytest.mark.parametrize("decibel", [70.0, 120.0, 500.0])
def test_what_would_clip_is_made_quieter(decibel: float):
    mel = np.random.default_rng(0).uniform(-60.0, -40.0, (32, 126)).astype(np.float32)
    out, loud = (mel_to_audio(m, SMALL, 8000) for m in (mel, mel + np.float32(decibel)))
    assert np.abs(out).max() < PEAK
    assert np.abs(loud).max() == pytest.approx(PEAK, rel=1e-6)
    # Apart from its level it is the same sound.
    np.testing.assert_allclose(loud / PEAK, out / np.abs(out).max(), atol=0.02)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(bad: float):
    mel_BMT = small_mels(3)
    mel_BMT[1, 5, 7] = bad
    with pytest.raises(ValueError, match=r"spectrogram 1 of 3 .*not finite"):
        Vocoder(SMALL)(mel_BMT, 8000)


@pytest.mark.parametrize(
    ("shape", "num_samples", "seed", "message"),
    [
        ((32, 126), 8000, 0, r"shape \(B, 32, 126\), not \(32, 126\)"),
        ((1, 31, 126), 8000, 0, r"shape \(B, 32, 126\)"),
        ((1, 32, 125), 8000, 0, r"shape \(B, 32, 126\)"),
        ((1, 32, 1), 0, 0, "0 samples"),
        ((2, 32, 126), 8000, [1], "2 spectrograms need as many seeds, not 1"),
    ],
)
def test_refused_input(shape: tuple[int, ...], num_samples: int, seed: int | list[int], message: str):
    with pytest.raises(ValueError, match=message):
        Vocoder(SMALL)(torch.zeros(shape), num_samples, seed)


def test_refused_iterations():
    with pytest.raises(ValueError, match="iterations must be at least 1, not 0"):
        Vocoder(SMALL, iterations=0)


def test_no_clips():
    assert Vocoder(SMALL)(torch.zeros(0, 32, 126), 8000).shape == (0, 8000)


def test_sensible_level_raises_the_quiet_and_lowers_the_loud():
    speech = noise(rate=RATE, level=0.1)
    quiet, loud = speech * np.float32(0.01), speech * np.float32(30.0)
    click, hiss = np.zeros_like(speech), noise(rate=RATE, level=SILENCE_PEAK / 10)
    click[1000] = 0.1
    given = torch.from_numpy(np.stack([speech, quiet, loud, click, hiss, np.zeros_like(speech)]))
    before = given.clone()
    out = normalize_loudness(given, RATE).numpy()
    assert torch.equal(given, before)
    np.testing.assert_array_equal(out[0], speech)
    assert 20 * np.log10(rms(out[1])) == pytest.approx(-26.0, abs=0.3)
    assert np.abs(out[2]).max() == pytest.approx(PEAK, rel=1e-6)
    # As RMS a click is quiet, but it can't be louder than full scale.
    assert np.abs(out[3]).max() == pytest.approx(PEAK, rel=1e-6)
    np.testing.assert_array_equal(out[4], hiss)
    assert not out[5].any()


def test_sensible_level_hears_a_short_sound_in_a_long_silence():
    samples = np.zeros(10 * RATE, np.float32)
    sound = slice(int(3.3 * RATE), int(3.7 * RATE))
    samples[sound] = noise(rate=RATE, level=1e-3)[: int(3.7 * RATE) - int(3.3 * RATE)]
    out = normalize_loudness(torch.from_numpy(samples)[None], RATE)[0].numpy()
    assert 20 * np.log10(rms(out[sound])) == pytest.approx(-26.0, abs=0.3)
    assert np.isfinite(normalize_loudness(torch.full((1, 3), 0.01), RATE)).all()
