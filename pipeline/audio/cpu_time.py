"""Estimated CPU time of decoding and spectrograms, by which a command decides where its work runs.

Costs are those of a core of 2024 (docs/results.md), within a factor of about two.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from pipeline.audio.features import FeatureConfig

# Seconds for a MB of a file, by its ending; most others are compressed.
_UNCOMPRESSED_S, _COMPRESSED_S = 0.002, 0.06
_DECODE_S = dict.fromkeys((".wav", ".wave", ".aif", ".aiff", ".au", ".w64"), _UNCOMPRESSED_S) | {
    ".flac": 0.01
}
# Seconds for the spectrogram of a second of audio, and for an augmented copy of it.
_MEL_S, _COPY_S = 0.00025, 0.0006
# Clips from which the cost of all is estimated.
_SAMPLE = 200


def clip_seconds(clips: Any, features: FeatureConfig, spectrograms: int = 1, copies: int = 0) -> float:
    """Return the mean seconds of a core for a clip.

    Args:
        clips: manifest with the columns `path` and `size`; some of its rows are looked at.
        features: settings of the spectrograms.
        spectrograms: spectrograms of each clip that are not of augmented copies.
        copies: augmented copies of each clip.
    """
    sample = clips.iloc[:: len(clips) // _SAMPLE | 1]  # odd, as kinds of files may alternate
    decoding = [
        _DECODE_S.get(PurePath(path).suffix.lower(), _COMPRESSED_S) * size / 1e6
        for path, size in zip(sample["path"], sample["size"], strict=True)
    ]
    per_second = spectrograms * _MEL_S + copies * (_COPY_S + _MEL_S)
    return sum(decoding) / max(1, len(decoding)) + per_second * features.seconds
