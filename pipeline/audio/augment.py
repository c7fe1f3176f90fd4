"""Waveform augmentations of a clip, their strength and their configuration.

Each augmentation takes float32 samples `[shape=(num_samples,)]`, the sample rate in Hz, a strength in (0, 1]
and a random generator, and returns float32 samples, possibly of another length. The generator samples the
discrete parameters (direction, noise color), the strength scales the effect. Copies of low strength are
therefore mild, and a hyperparameter search can select training rows by strength. See
docs/add-an-augmentation.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.fft
from pydantic import Field, model_validator

from models.config import Config, Seed
from pipeline.audio.waveform import resample

# Pairs are the values at strength 0 and 1; maxima are reached at strength 1.
MAX_SEMITONES = 4.0
MAX_SPEED_OCTAVES = 0.4  # 2 ** 0.4: 32 % faster or 24 % slower
MAX_SHIFT_FRACTION = 0.5  # of the clip length
SNR_DB = (40.0, 5.0)
REVERB_DECAY_S = (0.1, 1.5)  # RT60: time to decay by 60 dB
REVERB_WET = (0.1, 0.8)  # weight of the reverberated signal

_N_FFT = 2048
_HOP_LENGTH = 512


def row_rng(seed: int, clip_id: str, copy: int) -> np.random.Generator:
    """Return the random generator of one row; it does not depend on the worker or on the processing order."""
    digest = hashlib.blake2b(
        f"{seed}|{clip_id}|{copy}".encode("utf-8", "surrogatepass"), digest_size=16
    ).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


def add_noise(samples: np.ndarray, sample_rate: int, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Add white, pink or brown noise; the SNR falls from 40 dB at strength 0 to 5 dB at strength 1."""
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
    """Shift the pitch up or down by up to 4 semitones, in proportion to the strength; keep the length."""
    return shift_pitch(samples, sample_rate, float(rng.choice([-1.0, 1.0])) * MAX_SEMITONES * strength)


def speed_change(
    samples: np.ndarray, sample_rate: int, strength: float, rng: np.random.Generator
) -> np.ndarray:
    """Change speed, pitch and length together by up to 0.4 octaves, in proportion to the strength."""
    factor = 2.0 ** (float(rng.choice([-1.0, 1.0])) * MAX_SPEED_OCTAVES * strength)
    return resample(samples, sample_rate * factor, sample_rate)


def time_shift(
    samples: np.ndarray, sample_rate: int, strength: float, rng: np.random.Generator
) -> np.ndarray:
    """Shift the samples circularly in either direction by up to half their length."""
    return np.roll(
        samples, round(float(rng.choice([-1.0, 1.0])) * MAX_SHIFT_FRACTION * strength * samples.size)
    )


def add_reverb(
    samples: np.ndarray, sample_rate: int, strength: float, rng: np.random.Generator
) -> np.ndarray:
    """Convolve with a room response of exponentially decaying noise (Moorer 1979); keep RMS and length."""
    decay_s = REVERB_DECAY_S[0] + (REVERB_DECAY_S[1] - REVERB_DECAY_S[0]) * strength
    wet = REVERB_WET[0] + (REVERB_WET[1] - REVERB_WET[0]) * strength
    length = max(2, int(decay_s * sample_rate))
    envelope = np.exp(np.linspace(0.0, -np.log(1000.0), length, dtype=np.float32))
    response = rng.standard_normal(length, np.float32) * envelope
    response *= np.float32(wet / max(np.sqrt(np.sum(response**2)), 1e-12))
    response[0] += np.float32(1.0 - wet)
    out = convolve(samples, response)[: samples.size]
    return out * np.float32(_rms(samples) / max(_rms(out), 1e-12))


def convolve(samples: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Return the convolution; equal to `scipy.signal.fftconvolve`, whose module takes long to import."""
    if samples.size == 1:
        return samples * response
    size = samples.size + response.size - 1
    fft_size = scipy.fft.next_fast_len(size, real=True)
    product = scipy.fft.rfft(samples, fft_size) * scipy.fft.rfft(response, fft_size)
    return scipy.fft.irfft(product, fft_size)[:size]


def unchanged(samples: np.ndarray, sample_rate: int, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Return the samples as they are."""
    return samples


# Augmentations are combined in the order of a recording: the source, the room, the microphone. At most one of
# a group is applied; those of the first both change the pitch.
_CHAIN = (("pitch_shift", "speed_change"), ("reverb",), ("noise",), ("time_shift",))


Augmentation = Callable[[np.ndarray, int, float, np.random.Generator], np.ndarray]

AUGMENTATIONS: dict[str, Augmentation] = {
    "unchanged": unchanged,
    "noise": add_noise,
    "pitch_shift": pitch_shift,
    "speed_change": speed_change,
    "time_shift": time_shift,
    "reverb": add_reverb,
}


class AugmentConfig(Config):
    """Waveform augmentation at extraction."""

    copies: int = Field(1, ge=0, le=100)
    """Augmented copies per clip, in addition to the original."""
    augmentations: tuple[str, ...] = tuple(AUGMENTATIONS)
    """Augmentations to choose from, with equal probability."""
    combine_augmentations: bool = False
    """Apply several augmentations to each copy, not one: each with a probability of one half, but not both a
    pitch shift and a change of speed, which have a third each."""
    seed: Seed = 42
    """Random seed; a copy depends only on the seed, the clip id and the copy number."""

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON values.

        Those of one augmentation per copy are as in earlier versions, whose datasets remain the same ones.
        """
        values = super().to_dict()
        if not self.combine_augmentations:
            del values["combine_augmentations"]
        return values

    @model_validator(mode="after")
    def _check_augmentations(self) -> AugmentConfig:
        unknown = [name for name in self.augmentations if name not in AUGMENTATIONS]
        if unknown or not self.augmentations:
            problem = f"unknown augmentation {unknown}" if unknown else "no augmentation given"
            raise ValueError(f"{problem}; available: {', '.join(AUGMENTATIONS)}")
        return self


def sample_augmentations(config: AugmentConfig, rng: np.random.Generator) -> list[str]:
    """Sample the augmentations of a copy, in the order in which they are applied; at least one."""
    if not config.combine_augmentations:
        return [config.augmentations[int(rng.integers(len(config.augmentations)))]]
    groups = [[name for name in group if name in config.augmentations] for group in _CHAIN]
    others = set(config.augmentations).difference(("unchanged",), *_CHAIN)
    groups += [[name] for name in sorted(others)]
    choices = [int(rng.integers(len(group) + 1)) for group in groups]
    names = [group[choice - 1] for group, choice in zip(groups, choices, strict=True) if choice]
    return names or ["unchanged"]


def shift_pitch(samples: np.ndarray, sample_rate: int, semitones: float) -> np.ndarray:
    """Shift the pitch by any number of semitones: time-stretch, then resample to the original length."""
    factor = 2.0 ** (semitones / 12.0)
    shifted = resample(time_stretch(samples, 1.0 / factor), sample_rate * factor, sample_rate)
    out = np.zeros_like(samples)
    out[: shifted.size] = shifted[: samples.size]
    return out


def time_stretch(samples: np.ndarray, rate: float) -> np.ndarray:
    """Speed up by the factor `rate` at constant pitch, with a phase vocoder (Flanagan and Golden 1966).

    The synthesis hop equals the analysis hop, so the phase advance of each step is that of a pair of
    neighboring frames, modulo 2 pi. It is stored as a unit complex number (phasor) and accumulated by
    multiplication, which avoids all trigonometric functions.
    """
    half = _N_FFT // 2
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, half), _N_FFT)[::_HOP_LENGTH]
    spectrum = scipy.fft.rfft(frames * _WINDOW, axis=1, overwrite_x=True)
    spectrum = np.concatenate([spectrum, np.zeros_like(spectrum[:2])])
    magnitude = np.abs(spectrum)
    phasor = spectrum / np.maximum(magnitude, 1e-20)
    phasor[magnitude < 1e-20] = 1.0  # silence gets phase 0, so that a following onset keeps its own phase
    steps = np.arange(0.0, len(frames), rate)
    left = steps.astype(int)
    weight = (steps - left).astype(np.float32)[:, None]
    phase_steps = phasor[left + 1] * phasor[left].conj()
    phase_steps[1:] = phase_steps[:-1]
    phase_steps[0] = phasor[0]
    out = np.cumprod(phase_steps, axis=0)
    out *= magnitude[left] * (1.0 - weight) + magnitude[left + 1] * weight
    return _overlap_add(scipy.fft.irfft(out, _N_FFT, axis=1), max(1, round(samples.size / rate)))


def _overlap_add(frames: np.ndarray, num_samples: int) -> np.ndarray:
    """Window and overlap-add `frames` `[shape=(num_frames, n_fft)]`; divide by the summed squared windows."""
    overlap = _N_FFT // _HOP_LENGTH
    out = np.zeros((len(frames) + overlap - 1, _HOP_LENGTH), np.float32)
    norm = np.zeros_like(out)
    segments = (frames * _WINDOW).reshape(len(frames), overlap, _HOP_LENGTH)
    window = (_WINDOW**2).reshape(overlap, _HOP_LENGTH)
    for offset in range(overlap):
        out[offset : offset + len(frames)] += segments[:, offset]
        norm[offset : offset + len(frames)] += window[offset]
    out /= np.maximum(norm, 1e-3)
    flat = out.reshape(-1)[_N_FFT // 2 :][:num_samples]
    return flat if flat.size == num_samples else np.pad(flat, (0, num_samples - flat.size))


def _rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float32), dtype=np.float64)))


# Periodic Hann window.
_WINDOW = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_N_FFT) / _N_FFT)).astype(np.float32)
