"""Window and mel filter bank of a spectrogram, equal to librosa's to the last bit.

Written again because `librosa.filters` imports scipy.signal and numba, which takes as long as all else that a
worker process imports: more than the spectrograms of a hundred clips.
"""

from __future__ import annotations

import numpy as np

# Slaney's scale: linear below 1 kHz, then logarithmic with 27 mels for a factor of 6.4.
_HZ_PER_MEL = 200.0 / 3
_LOG_START_HZ = 1000.0
_LOG_START_MEL = _LOG_START_HZ / _HZ_PER_MEL
_LOG_STEP = np.log(6.4) / 27.0


def hann_window(size: int) -> np.ndarray:
    """Return a periodic Hann window `[shape=(size,)]`, float64."""
    angles = np.linspace(-np.pi, np.pi, size + 1)
    return (0.5 + 0.5 * np.cos(angles))[:-1]


def mel_filter_bank(sample_rate: int, n_fft: int, n_mels: int, fmin: float, fmax: float) -> np.ndarray:
    """Return the weights of triangular filters of unit area, evenly spaced on Slaney's mel scale.

    Args:
        sample_rate: in Hz.
        n_fft: window length in samples.
        n_mels: number of filters.
        fmin: lower edge of the lowest filter in Hz.
        fmax: upper edge of the highest filter in Hz.

    Returns:
        Weight of each frequency of the spectrum, float32 `[shape=(n_mels, 1 + n_fft / 2)]`.
    """
    edges = band_edges(n_mels, fmin, fmax)
    widths = np.diff(edges)
    distances = np.subtract.outer(edges, np.fft.rfftfreq(n_fft, 1.0 / sample_rate))
    bank = np.zeros((n_mels, 1 + n_fft // 2), np.float32)
    for band in range(n_mels):
        rising, falling = -distances[band] / widths[band], distances[band + 2] / widths[band + 1]
        bank[band] = np.maximum(0, np.minimum(rising, falling))
    bank *= (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return bank


def band_edges(n_mels: int, fmin: float, fmax: float) -> np.ndarray:
    """Return the edges of filters in Hz: filter m rises from edge m to edge m + 1 and falls to edge m + 2.

    Returns:
        float64 `[shape=(n_mels + 2,)]`.
    """
    return mel_to_hz(np.linspace(hz_to_mel(fmin), hz_to_mel(fmax), n_mels + 2))


def hz_to_mel(frequency: float) -> float:
    """Convert a frequency in Hz to mels."""
    if frequency < _LOG_START_HZ:
        return frequency / _HZ_PER_MEL
    return _LOG_START_MEL + np.log(frequency / _LOG_START_HZ) / _LOG_STEP


def mel_to_hz(mels: np.ndarray) -> np.ndarray:
    """Convert mels to frequencies in Hz."""
    logarithmic = mels >= _LOG_START_MEL
    frequencies = _HZ_PER_MEL * mels
    frequencies[logarithmic] = _LOG_START_HZ * np.exp(_LOG_STEP * (mels[logarithmic] - _LOG_START_MEL))
    return frequencies
