"""Resample, trim, crop and pad mono samples, and write them as WAV files.

Functions take and return float32 arrays of shape `(num_samples,)`.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile
import soxr

from pipeline.io.files import write_atomically

# soxr quality: errors below the 16-bit noise floor, in half the time of the next higher one.
RESAMPLE_QUALITY = "HQ"
# As in librosa.effects.trim: hop length, and minimum power that is not silence.
TRIM_HOP = 512
TRIM_AMIN = 1e-10


def resample(samples: np.ndarray, from_rate: float, to_rate: float) -> np.ndarray:
    """Resample between any two rates in Hz, band-limited (soxr HQ); never to fewer than one sample."""
    if from_rate == to_rate or samples.size == 0:
        return samples
    out = soxr.resample(samples, from_rate, to_rate, quality=RESAMPLE_QUALITY)
    return out if out.size else samples[:1].copy()


def trim_silence(samples: np.ndarray, top_db: float) -> np.ndarray:
    """Trim both ends where the RMS is more than `top_db` dB below that of the loudest frame.

    Equal to `librosa.effects.trim`: centered frames of four hops. Samples that are all silent are returned
    untrimmed.
    """
    num_hops = samples.size // TRIM_HOP
    hops, rest = samples[: num_hops * TRIM_HOP].reshape(num_hops, TRIM_HOP), samples[num_hops * TRIM_HOP :]
    energy = np.zeros(num_hops + 4, np.float32)
    energy[2:-2] = np.einsum("ij,ij->i", hops, hops)
    energy[-2] = np.dot(rest, rest)
    power = (energy[:-3] + energy[1:-2] + energy[2:-1] + energy[3:]) / np.float32(4 * TRIM_HOP)
    power = np.maximum(power, np.float32(TRIM_AMIN))
    loud = np.flatnonzero(power > power.max() * np.float32(10 ** (-top_db / 10)))
    return samples[loud[0] * TRIM_HOP : (loud[-1] + 1) * TRIM_HOP]


def write_wav(path: Path, samples: np.ndarray, sample_rate: int) -> None:
    """Write mono samples in [-1, 1] as a 16-bit WAV file, atomically."""
    content = encode_wav(samples, sample_rate)  # soundfile would print the traceback of a full disk
    write_atomically(path, lambda file: file.write(content))


def encode_wav(samples: np.ndarray, sample_rate: int) -> bytes:
    """Return mono samples in [-1, 1] as a 16-bit WAV file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, sample_rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def fix_length(samples: np.ndarray, num_samples: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """Crop or zero-pad samples to `num_samples`.

    The crop is centered, or with `rng` at a uniformly random position; zeros are appended at the end.
    """
    excess = samples.size - num_samples
    if excess > 0:
        start = excess // 2 if rng is None else int(rng.integers(excess + 1))
        return samples[start : start + num_samples]
    if excess < 0:
        return np.pad(samples, (0, -excess))
    return samples
