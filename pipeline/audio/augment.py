"""Waveform augmentation: one change of a clip, as strong as its row says.

Each transform takes samples `[shape=(num_samples,)]`, the sample rate, a strength in (0, 1] and a random generator, and
returns float32 samples, not always as many. The generator decides what kind (which way, which noise), the strength how
much: so rows with a small strength are mild ones, and a search may choose rows by it. See docs/add-an-augmentation.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import scipy.fft

from pipeline.audio.decode import resample

MAX_SEMITONES = 4.0
MAX_SPEED_OCTAVES = 0.4  # 2 ** 0.4: a third faster or a quarter slower
MAX_SHIFT = 0.5  # of the length
SNR_DB = (40.0, 5.0)  # at strength 0 and 1
REVERB_SECONDS = (0.1, 1.5)  # time to decay by 60 dB, at strength 0 and 1
REVERB_WET = (0.1, 0.8)

_N_FFT = 2048
_HOP = 512


def row_rng(seed: int, clip_id: str, copy: int) -> np.random.Generator:
    """The generator of one row: the same on any worker, in any order."""
    digest = hashlib.blake2b(
        f"{seed}|{clip_id}|{copy}".encode("utf-8", "surrogatepass"), digest_size=16
    ).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


def add_noise(samples: np.ndarray, sample_rate: int, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Adds white, pink or brown noise at a signal-to-noise ratio of 40 dB (weak) down to 5 dB (strong)."""
    exponent = rng.choice([0.0, 0.5, 1.0])
    noise = rng.standard_normal(samples.size, np.float32)
    if exponent:
        size = scipy.fft.next_fast_len(samples.size, real=True)
        spectrum = scipy.fft.rfft(noise, size)
        spectrum /= np.maximum(np.arange(spectrum.size, dtype=np.float32), 1.0) ** np.float32(exponent)
        noise = scipy.fft.irfft(spectrum, size)[: samples.size]
    snr_db = SNR_DB[0] + (SNR_DB[1] - SNR_DB[0]) * strength
    gain = _rms(samples) / max(_rms(noise), 1e-12) * 10 ** (-snr_db / 20)
    return samples + np.float32(gain) * noise


def pitch_shift(
    samples: np.ndarray, sample_rate: int, strength: float, rng: np.random.Generator
) -> np.ndarray:
    """Moves all frequencies up or down by 4 semitones times the strength; the length stays."""
    return shift_pitch(samples, sample_rate, float(rng.choice([-1.0, 1.0])) * MAX_SEMITONES * strength)


def speed_change(
    samples: np.ndarray, sample_rate: int, strength: float, rng: np.random.Generator
) -> np.ndarray:
    """Plays faster or slower, like a tape: pitch and length change together, by 0.4 octaves times the strength."""
    factor = 2.0 ** (float(rng.choice([-1.0, 1.0])) * MAX_SPEED_OCTAVES * strength)
    return resample(samples, sample_rate * factor, sample_rate)


def time_shift(
    samples: np.ndarray, sample_rate: int, strength: float, rng: np.random.Generator
) -> np.ndarray:
    """Moves the sound left or right by up to half its length; what leaves one end enters the other."""
    return np.roll(samples, round(float(rng.choice([-1.0, 1.0])) * MAX_SHIFT * strength * samples.size))


def add_reverb(
    samples: np.ndarray, sample_rate: int, strength: float, rng: np.random.Generator
) -> np.ndarray:
    """Convolves with a room made of exponentially decaying noise (Moorer 1979); level and length stay."""
    seconds = REVERB_SECONDS[0] + (REVERB_SECONDS[1] - REVERB_SECONDS[0]) * strength
    wet = REVERB_WET[0] + (REVERB_WET[1] - REVERB_WET[0]) * strength
    length = max(2, int(seconds * sample_rate))
    decay = np.exp(np.linspace(0.0, -np.log(1000.0), length, dtype=np.float32))
    room = rng.standard_normal(length, np.float32) * decay
    room *= np.float32(wet / max(np.sqrt(np.sum(room**2)), 1e-12))
    room[0] += np.float32(1.0 - wet)
    from scipy.signal import fftconvolve  # slow to import, and trainings import this module

    out = fftconvolve(samples, room)[: samples.size].astype(np.float32, copy=False)
    return out * np.float32(_rms(samples) / max(_rms(out), 1e-12))


def unchanged(samples: np.ndarray, sample_rate: int, strength: float, rng: np.random.Generator) -> np.ndarray:
    """The clip as it is."""
    return samples


Transform = Callable[[np.ndarray, int, float, np.random.Generator], np.ndarray]

RECIPES: dict[str, Transform] = {
    "unchanged": unchanged,
    "noise": add_noise,
    "pitch_shift": pitch_shift,
    "speed_change": speed_change,
    "time_shift": time_shift,
    "reverb": add_reverb,
}


def shift_pitch(samples: np.ndarray, sample_rate: int, semitones: float) -> np.ndarray:
    """Changes the pitch by any number of semitones: a stretch in time, then resampling back to the same length."""
    factor = 2.0 ** (semitones / 12.0)
    shifted = resample(stretch(samples, 1.0 / factor), sample_rate * factor, sample_rate)
    out = np.zeros_like(samples)
    out[: shifted.size] = shifted[: samples.size]
    return out


def stretch(samples: np.ndarray, rate: float) -> np.ndarray:
    """Plays `rate` times as fast at the same pitch, by the phase vocoder (Flanagan and Golden 1966).

    The synthesis hop equals the analysis hop, so the phase advance of each step is that of a pair of neighbouring
    frames, whole turns apart; it is kept as a unit complex number and summed by multiplying, without any trigonometry.
    """
    half = _N_FFT // 2
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, half), _N_FFT)[::_HOP]
    spectrum = scipy.fft.rfft(frames * _WINDOW, axis=1, overwrite_x=True)
    spectrum = np.concatenate([spectrum, np.zeros_like(spectrum[:2])])
    magnitude = np.abs(spectrum)
    phasor = spectrum / np.maximum(magnitude, 1e-20)
    phasor[magnitude < 1e-20] = 1.0  # silence has the phase 0, so that what follows it begins with its own
    steps = np.arange(0.0, len(frames), rate)
    left = steps.astype(int)
    weight = (steps - left).astype(np.float32)[:, None]
    turns = phasor[left + 1] * phasor[left].conj()
    turns[1:] = turns[:-1]
    turns[0] = phasor[0]
    out = np.cumprod(turns, axis=0)
    out *= magnitude[left] * (1.0 - weight) + magnitude[left + 1] * weight
    return _overlap_add(scipy.fft.irfft(out, _N_FFT, axis=1), max(1, round(samples.size / rate)))


def _overlap_add(frames: np.ndarray, num_samples: int) -> np.ndarray:
    """Windowed overlap-add of `frames` `[shape=(num_frames, n_fft)]`, divided by the summed squared windows."""
    parts = _N_FFT // _HOP
    out = np.zeros((len(frames) + parts - 1, _HOP), np.float32)
    norm = np.zeros_like(out)
    pieces = (frames * _WINDOW).reshape(len(frames), parts, _HOP)
    window = (_WINDOW**2).reshape(parts, _HOP)
    for part in range(parts):
        out[part : part + len(frames)] += pieces[:, part]
        norm[part : part + len(frames)] += window[part]
    out /= np.maximum(norm, 1e-3)
    flat = out.reshape(-1)[_N_FFT // 2 :][:num_samples]
    return flat if flat.size == num_samples else np.pad(flat, (0, num_samples - flat.size))


def _rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float32), dtype=np.float64)))


# Hann, periodic.
_WINDOW = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_N_FFT) / _N_FFT)).astype(np.float32)
