"""Log-mel spectrograms in dB, equal to librosa's within 1e-3 dB and about three times as fast on one core.

That holds down to 75 dB below the loudest value; beneath a pure tone lies the rounding of single precision, which librosa avoids.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Self

import librosa
import numpy as np
import scipy.fft
import scipy.sparse
from pydantic import Field, model_validator

from models.config import Config

# librosa.power_to_db: the least power that is not called silence.
AMIN = 1e-10
CHUNK_FRAMES = 32


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
            raise ValueError(f"need fmin < fmax <= sample_rate / 2, not {self.fmin} < {top} <= {self.sample_rate / 2}")
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
        # Most of the bank is zero (2 in 128 values per frequency), hence the sparse product.
        self._bank = scipy.sparse.csr_matrix(
            librosa.filters.mel(sr=config.sample_rate, n_fft=config.n_fft, n_mels=config.n_mels, fmin=config.fmin, fmax=config.fmax)
        )

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Log-mel power of `samples` `[shape=(num_samples,)]`, in dB `[shape=(n_mels, num_frames)]`, float32.

        Raises:
            ValueError: when there is no sample, or more than one axis.
        """
        if samples.ndim != 1 or samples.size == 0:
            raise ValueError(f"samples must have shape (num_samples,) with at least one, not {samples.shape}")
        mel = self._mel_power(samples.astype(np.float32, copy=False))
        decibel = 10.0 * np.log10(np.maximum(mel, np.float32(AMIN)))
        if self.config.top_db is not None:
            np.maximum(decibel, decibel.max() - np.float32(self.config.top_db), out=decibel)
        return decibel

    def _mel_power(self, samples: np.ndarray) -> np.ndarray:
        """Power in each mel band `[shape=(n_mels, num_frames)]`."""
        n_fft, half = self.config.n_fft, self.config.n_fft // 2
        padded = np.pad(samples, half)
        frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[:: self.config.hop_length]
        mel = np.empty((self.config.n_mels, len(frames)), np.float32)
        # A few frames at a time stay in the cache, and small arrays are not handed back to the kernel: twice as fast.
        for start in range(0, len(frames), CHUNK_FRAMES):
            chunk = frames[start : start + CHUNK_FRAMES] * self._window
            # scipy keeps float32 here; numpy's transform does too, at seven times the time.
            spectrum = scipy.fft.rfft(chunk, axis=1, overwrite_x=True)
            power = spectrum.real**2
            power += spectrum.imag**2
            mel[:, start : start + CHUNK_FRAMES] = self._bank @ power.T
        return mel


@lru_cache(maxsize=4)
def log_mel(config: MelConfig) -> LogMel:
    """The `LogMel` of a configuration, made once in each process."""
    return LogMel(config)
