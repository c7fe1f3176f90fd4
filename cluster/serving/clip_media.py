"""Images of the spectrograms of clips, without axes."""

from __future__ import annotations

import base64

import numpy as np

from pipeline.report.clips import MAX_BANDS, decibel_scale, spectrogram_data_uri

MAX_COLUMNS = 1024


def mel_png(mel: np.ndarray) -> bytes:
    """Return a PNG of a spectrogram in dB `[shape=(n_mels, num_frames)]`; low frequencies below."""
    uri = spectrogram_data_uri(mel, decibel_scale([mel]), (MAX_BANDS, MAX_COLUMNS))
    return base64.b64decode(uri.partition(",")[2])
