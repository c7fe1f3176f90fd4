"""Spectrogram settings as a user gives them: what he leaves out is chosen from the clips."""

from __future__ import annotations

from pydantic import Field

from models.config import Config

DEFAULT_N_MELS = 128


class MelSettings(Config):
    """Log-mel spectrogram settings."""

    sample_rate: int | None = Field(None, ge=1000, le=384_000)
    """Sample rate in Hz (default: that of most clips, at most 22,050)."""
    n_fft: int | None = Field(None, ge=16, le=65_536, multiple_of=2)
    """FFT window length in samples, even (default: a power of two, about four hops)."""
    hop_length: int | None = Field(None, ge=1)
    """Hop length in samples (default: 10 ms for clips of up to 2 s, up to 23 ms for longer ones)."""
    n_mels: int | None = Field(None, ge=1, le=1024)
    """Number of mel bands (default: 128, or fewer that the FFT window can resolve)."""
    fmin: float = Field(0.0, ge=0)
    """Lower edge of the lowest mel band in Hz."""
    fmax: float | None = None
    """Upper edge of the highest mel band in Hz (default: half the sample rate)."""
    top_db: float | None = Field(80.0, gt=0)
    """Dynamic range in dB below the maximum of each clip; none keeps everything."""


class FeatureSettings(Config):
    """Spectrogram settings, which training, prediction and generation share."""

    mel: MelSettings = MelSettings()
    """Log-mel spectrogram."""
    seconds: float | None = Field(None, ge=0.001, le=600)
    """Clip length in seconds; longer clips are cropped, shorter ones zero-padded (default: that of nearly
    all clips, at most 5)."""
    trim_db: float | None = Field(60.0, gt=0)
    """Trim leading and trailing silence more than this many dB below the peak level; none disables it."""
