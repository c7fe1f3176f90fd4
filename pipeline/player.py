"""Sounds inside a page: players whose sound is part of the file."""

from __future__ import annotations

import base64
import io

import numpy as np
import soundfile

from pipeline.report.page import escape

# The rates that MP3 knows, in Hz; a libsndfile without MP3 takes none.
MP3_RATES = (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000) if soundfile.check_format("MP3") else ()
# Of libsndfile, from 0 to 1, with a variable bit rate: five seconds at 22,050 Hz take some 30 kB, a seventh of WAV, and their
# spectrogram stays within 0.7 dB on average. A constant one that is as small loses the header that tells the length.
COMPRESSION = 0.1


def player(samples: np.ndarray, rate: int, label: str) -> str:
    """The browser's own player, which is worked by keyboard too.

    Args:
        samples: mono, in [-1, 1] `[shape=(num_samples,)]`.
        rate: in Hz.
        label: what is to be heard, for those who cannot see it.
    """
    return f'<audio controls preload="none" aria-label="{escape(label)}" src="{sound_data(samples, rate)}"></audio>'


def sound_data(samples: np.ndarray, rate: int) -> str:
    """Mono samples in [-1, 1] `[shape=(num_samples,)]` as a data URI: MP3, or 16-bit WAV at a rate in Hz that MP3 lacks."""
    # The MP3 encoder ends the whole process on values that are not finite or far beyond full scale.
    samples = np.clip(np.nan_to_num(np.asarray(samples, np.float32)), -1.0, 1.0)
    buffer = io.BytesIO()
    if rate in MP3_RATES:
        soundfile.write(buffer, samples, rate, format="MP3", bitrate_mode="VARIABLE", compression_level=COMPRESSION)
        kind = "audio/mpeg"
    else:
        soundfile.write(buffer, samples, rate, format="WAV", subtype="PCM_16")
        kind = "audio/wav"
    return f"data:{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
