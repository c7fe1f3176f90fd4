"""Log-mel spectrograms in dB, equal to librosa's within 1e-3 dB and about three times as fast on one core.

The tolerance holds down to 75 dB below the maximum; below a pure tone, single-precision rounding dominates,
which librosa avoids.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Self

import numpy as np
import scipy.fft
from pydantic import Field, model_validator

from pipeline.audio.feature_settings import DEFAULT_N_MELS, MelSettings
from pipeline.audio.mel_filters import hann_window, mel_filter_bank

# As in librosa.power_to_db: minimum power, below which values are clipped.
AMIN = 1e-10
# Frames and mel bands per step: few enough to stay in the CPU cache, enough to outweigh the overhead of a
# call.
CHUNK_FRAMES = 72
CHUNK_BANDS = 16


# Sample rates in Hz that sounds may be decoded to.
MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 1000, 384_000


class MelConfig(MelSettings):
    """Log-mel spectrogram settings, all of them known."""

    sample_rate: int = Field(22_050, ge=MIN_SAMPLE_RATE, le=MAX_SAMPLE_RATE)
    """Sample rate in Hz."""
    n_fft: int = Field(2048, ge=16, le=65_536, multiple_of=2)
    """FFT window length in samples (even)."""
    hop_length: int = Field(512, ge=1)
    """Hop length in samples."""
    n_mels: int = Field(DEFAULT_N_MELS, ge=1, le=1024)
    """Number of mel bands."""

    @model_validator(mode="after")
    def _check_bands(self) -> Self:
        top = self.sample_rate / 2 if self.fmax is None else self.fmax
        if not self.fmin < top <= self.sample_rate / 2:
            raise ValueError(
                f"need fmin < fmax <= sample_rate / 2, not {self.fmin} < {top} <= {self.sample_rate / 2}"
            )
        return self

    def num_frames(self, num_samples: int) -> int:
        """Return the number of frames of `num_samples` samples; the only formula for it in melray."""
        return 1 + num_samples // self.hop_length


def filter_bank_of(config: MelConfig) -> np.ndarray:
    """Return the mel filter bank of a spectrogram; see `mel_filter_bank`."""
    fmax = config.sample_rate / 2 if config.fmax is None else config.fmax
    return mel_filter_bank(config.sample_rate, config.n_fft, config.n_mels, config.fmin, fmax)


class LogMel:
    """Computes log-mel spectrograms; holds the window and the filter bank.

    Equal to `power_to_db(melspectrogram(y))` of librosa: periodic Hann window, centered frames with zero
    padding, power spectrum, Slaney mel bands of unit area, 10 log10 with reference 1.
    """

    def __init__(self, config: MelConfig):
        self.config = config
        self._window = hann_window(config.n_fft).astype(np.float32)
        self._blocks = list(_dense_blocks(filter_bank_of(config)))

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Compute the log-mel power of `samples` `[shape=(num_samples,)]`.

        Returns:
            dB, float32 `[shape=(n_mels, num_frames)]`.

        Raises:
            ValueError: no samples, or more than one axis.
        """
        if samples.ndim != 1 or samples.size == 0:
            raise ValueError(
                f"samples must have shape (num_samples,) and at least one sample, got {samples.shape}"
            )
        mel = self._mel_power(samples.astype(np.float32, copy=False))
        decibel = np.maximum(mel, np.float32(AMIN), out=mel)
        np.log10(decibel, out=decibel)
        decibel *= np.float32(10.0)
        if self.config.top_db is not None:
            np.maximum(decibel, decibel.max() - np.float32(self.config.top_db), out=decibel)
        return decibel

    def _mel_power(self, samples: np.ndarray) -> np.ndarray:
        """Compute the power in each mel band `[shape=(n_mels, num_frames)]`."""
        half, hop = self.config.n_fft // 2, self.config.hop_length
        mel = np.zeros((self.config.n_mels, self.config.num_frames(samples.size)), np.float32)
        # Zero padding at the end of a short clip has no power: compute only frames up to the last nonzero
        # hop.
        end = samples.size
        while end > 0 and not samples[max(0, end - hop) : end].any():
            end = max(0, end - hop)
        edge = np.zeros(half, np.float32)
        padded = np.concatenate([edge, samples, edge])
        frames = np.lib.stride_tricks.sliding_window_view(padded, 2 * half)[::hop]
        frames = frames[: -(-(end + half) // hop)]
        # Small arrays stay in the cache, and malloc does not return them to the kernel.
        for start in range(0, len(frames), CHUNK_FRAMES):
            chunk = slice(start, min(start + CHUNK_FRAMES, len(frames)))
            # scipy and numpy both keep float32; scipy takes half the time.
            squares = scipy.fft.rfft(frames[chunk] * self._window, axis=1).view(np.float32)
            np.square(squares, out=squares)
            for bands, span, weights in self._blocks:
                np.matmul(weights, squares.T[span], out=mel[bands, chunk])
        return mel


def _dense_blocks(bank: np.ndarray) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Split the mel filter bank `[shape=(n_mels, num_frequencies)]`, 98 % zeros, into dense blocks.

    Yields a slice of neighboring bands, the slice of the spectrum that they cover, and their weights
    `[shape=(bands, span)]`. The spectrum is given as alternating real and imaginary parts, so each weight is
    repeated: the product with their squares then sums both, which is the power.
    """
    weights = np.repeat(bank, 2, axis=1)
    for first in range(0, len(bank), CHUNK_BANDS):
        bands = slice(first, first + CHUNK_BANDS)
        nonzero = np.flatnonzero(weights[bands].any(axis=0))
        if nonzero.size:  # bands narrower than the frequency resolution may have no weight at all
            span = slice(int(nonzero[0]), int(nonzero[-1]) + 1)
            yield bands, span, np.ascontiguousarray(weights[bands, span])


@lru_cache(maxsize=4)
def log_mel(config: MelConfig) -> LogMel:
    """Return the `LogMel` of a configuration, cached per process."""
    return LogMel(config)
