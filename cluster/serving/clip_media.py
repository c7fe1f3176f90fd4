"""Images of the spectrograms of clips, without axes."""

from __future__ import annotations

import numpy as np

from pipeline.report.clips import MAX_BANDS, decibel_scale, pixel_png

MAX_COLUMNS = 1024


def mel_png(mel: np.ndarray) -> bytes:
    """Return a PNG of a spectrogram in dB `[shape=(n_mels, num_frames)]`; low frequencies below."""
    return pixel_png(mel, decibel_scale([mel]), (MAX_BANDS, MAX_COLUMNS))
