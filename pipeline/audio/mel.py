"""Log-mel spectrograms in dB, equal to librosa's within 1e-3 dB and about three times as fast on one core.

That holds down to 75 dB below the loudest value; beneath a pure tone lies the rounding of single precision, which librosa avoids.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Self

import librosa
import numpy as np
import scipy.fft
from pydantic import Field, model_validator

from models.config import Config

# librosa.power_to_db: the least power that is not called silence.
AMIN = 1e-10
# Frames that are worked on at a time, and bands: few enough to stay in the cache, enough for a call to be worth it.
CHUNK_FRAMES = 72
CHUNK_BANDS = 16


class MelConfig(Config):
    """How samples become a log-mel spectrogram."""

    sample_rate: int = Field(22_050, ge=1000, le=384_000)
    """Rate of the samples, in Hz."""
    n_fft: int = Field(2048, ge=16, le=65_536, multiple_of=2)
    """Length of a window, in samples; an even number."""
    hop_length: int = Field(512, ge=1)
    """Distance between windows, in samples."""
    n_mels: int = Field(128, ge=1, le=1024)
    """Number of mel bands."""
    fmin: float = Field(0.0, ge=0)
    """Lower edge of the lowest band, in Hz."""
    fmax: float | None = None
    """Upper edge of the highest band, in Hz; by default half the sample rate."""
    top_db: float | None = Field(80.0, gt=0)
    """Range kept below the loudest value of a clip, in dB; none keeps all."""

    @model_validator(mode="after")
    def _check_bands(self) -> Self:
        top = self.sample_rate / 2 if self.fmax is None else self.fmax
        if not self.fmin < top <= self.sample_rate / 2:
            raise ValueError(
                f"need fmin < fmax <= sample_rate / 2, not {self.fmin} < {top} <= {self.sample_rate / 2}"
            )
        return self

    def num_frames(self, num_samples: int) -> int:
        """Frames of a spectrogram of so many samples; the one formula, used everywhere."""
        return 1 + num_samples // self.hop_length


class LogMel:
    """Computes log-mel spectrograms; holds the window and the filter bank.

    The definition is `power_to_db(melspectrogram(y))` of librosa: periodic Hann window, centred frames over zero
    padding, power spectrum, Slaney mel bands of unit area, 10 log10 with reference 1.
    """

    def __init__(self, config: MelConfig):
        self.config = config
        self._window = librosa.filters.get_window("hann", config.n_fft).astype(np.float32)
        bank = librosa.filters.mel(
            sr=config.sample_rate,
            n_fft=config.n_fft,
            n_mels=config.n_mels,
            fmin=config.fmin,
            fmax=config.fmax,
        )
        self._products = list(_products(bank))

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Log-mel power of `samples` `[shape=(num_samples,)]`, in dB `[shape=(n_mels, num_frames)]`, float32.

        Raises:
            ValueError: when there is no sample, or more than one axis.
        """
        if samples.ndim != 1 or samples.size == 0:
            raise ValueError(f"samples must have shape (num_samples,) with at least one, not {samples.shape}")
        mel = self._mel_power(samples.astype(np.float32, copy=False))
        decibel = np.maximum(mel, np.float32(AMIN), out=mel)
        np.log10(decibel, out=decibel)
        decibel *= np.float32(10.0)
        if self.config.top_db is not None:
            np.maximum(decibel, decibel.max() - np.float32(self.config.top_db), out=decibel)
        return decibel

    def _mel_power(self, samples: np.ndarray) -> np.ndarray:
        """Power in each mel band `[shape=(n_mels, num_frames)]`."""
        half, hop = self.config.n_fft // 2, self.config.hop_length
        mel = np.zeros((self.config.n_mels, self.config.num_frames(samples.size)), np.float32)
        # The silence that fills up a short clip has no power: only frames that reach its last sound are worked out.
        end = samples.size
        while end > 0 and not samples[max(0, end - hop) : end].any():
            end = max(0, end - hop)
        edge = np.zeros(half, np.float32)
        frames = np.lib.stride_tricks.sliding_window_view(np.concatenate([edge, samples, edge]), 2 * half)[
            ::hop
        ]
        frames = frames[: -(-(end + half) // hop)]
        # Small arrays stay in the cache, and are not handed back to the kernel.
        for start in range(0, len(frames), CHUNK_FRAMES):
            chunk = slice(start, min(start + CHUNK_FRAMES, len(frames)))
            # scipy keeps float32 here; numpy's transform does too, at twice the time.
            parts = scipy.fft.rfft(frames[chunk] * self._window, axis=1).view(np.float32)
            np.square(parts, out=parts)
            for bands, used, weights in self._products:
                np.matmul(weights, parts.T[used], out=mel[bands, chunk])
        return mel


def _products(bank: np.ndarray) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Cuts the mel bank `[shape=(n_mels, num_frequencies)]` into dense pieces: 98 in 100 of its values are zero.

    Yields some neighbouring bands, the parts of the spectrum that they use, and their weights `[shape=(bands, parts)]`.
    Parts are real and imaginary ones in turn: with each weight twice, the sum over both of their squares, which is the
    power, comes with the product.
    """
    weights = np.repeat(bank, 2, axis=1)
    for first in range(0, len(bank), CHUNK_BANDS):
        bands = slice(first, first + CHUNK_BANDS)
        used = np.flatnonzero(weights[bands].any(axis=0))
        if used.size:  # bands narrower than the distance of two frequencies may miss them all
            span = slice(int(used[0]), int(used[-1]) + 1)
            yield bands, span, np.ascontiguousarray(weights[bands, span])


@lru_cache(maxsize=4)
def log_mel(config: MelConfig) -> LogMel:
    """The `LogMel` of a configuration, made once in each process."""
    return LogMel(config)
