"""Spectrogram settings that the user leaves out: chosen from the sample rates and lengths of the clips.

Windows and hops follow the length of the clips in seconds, not a number of samples: short sounds, such as
words, change within 10 ms, and a clip of any length becomes a spectrogram of 100 to 216 frames.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from pipeline.audio.feature_settings import DEFAULT_N_MELS, FeatureSettings
from pipeline.audio.features import FeatureConfig
from pipeline.audio.mel import MelConfig
from pipeline.audio.mel_filters import hz_to_mel, mel_to_hz

MAX_SAMPLE_RATE, MAX_SECONDS = 22_050, 5.0
# Frames of a clip that is neither short nor long, and limits of the hop in seconds.
TARGET_FRAMES, MIN_HOP_S, MAX_HOP_S = 215, 0.010, 512 / 22_050
HOPS_PER_WINDOW = 4
# Fraction of the clips that are not cropped.
UNCROPPED = 0.95
# Clips that are this many times as long as what is used of them are probably recordings to cut into windows.
MUCH_LONGER = 2
# Mel bands come in multiples of this.
N_MELS_STEP = 16


class ClipFormat(NamedTuple):
    """Sample rate in Hz and length in seconds of an audio file."""

    sample_rate: float
    seconds: float


def resolve_features(
    settings: FeatureSettings, read_formats: Callable[[], Sequence[ClipFormat]]
) -> FeatureConfig:
    """Choose what the settings leave out.

    Args:
        settings: settings of the user.
        read_formats: returns the formats of some clips; only called if they are needed.
    """
    mel, seconds, sample_rate = settings.mel, settings.seconds, settings.mel.sample_rate
    if seconds is None or sample_rate is None:
        formats = read_formats()
        seconds = typical_seconds(formats) if seconds is None else seconds
        sample_rate = typical_sample_rate(formats) if sample_rate is None else sample_rate
    hop_length, n_fft = mel.hop_length, mel.n_fft
    if hop_length is None:
        hop_length = default_hop_length(sample_rate, seconds) if n_fft is None else max(1, n_fft // 4)
    if n_fft is None:
        n_fft = max(16, 2 ** round(math.log2(HOPS_PER_WINDOW * hop_length)))
    fmax = sample_rate / 2 if mel.fmax is None else mel.fmax
    n_mels = default_n_mels(sample_rate, n_fft, mel.fmin, fmax) if mel.n_mels is None else mel.n_mels
    known = {"sample_rate": sample_rate, "n_fft": n_fft, "hop_length": hop_length, "n_mels": n_mels}
    return FeatureConfig(mel=MelConfig(**(mel.to_dict() | known)), seconds=seconds, trim_db=settings.trim_db)


def complete_settings(settings: FeatureSettings, others: FeatureConfig) -> FeatureConfig:
    """Take what the settings leave out from other settings."""
    given = {name: value for name, value in settings.to_dict().items() if value is not None}
    mel = {name: value for name, value in settings.mel.to_dict().items() if value is not None}
    # In these two, None is a value of the user, and not something that is left out.
    none = {"fmax": settings.mel.fmax, "top_db": settings.mel.top_db}
    known = {"mel": others.mel.to_dict() | mel | none, "trim_db": settings.trim_db}
    return FeatureConfig(**(others.to_dict() | given | known))


def typical_sample_rate(formats: Sequence[ClipFormat]) -> int:
    """Return the most frequent sample rate in Hz, at most `MAX_SAMPLE_RATE`; that one without formats."""
    counts = Counter(round(clip.sample_rate) for clip in formats)
    if not counts:
        return MAX_SAMPLE_RATE
    most_frequent = max(counts, key=lambda rate: (counts[rate], rate))
    return max(1000, min(MAX_SAMPLE_RATE, most_frequent))


def typical_seconds(formats: Sequence[ClipFormat]) -> float:
    """Return a length that crops few clips, in tenths of a second, at most `MAX_SECONDS`."""
    if not formats:
        return MAX_SECONDS
    seconds = float(np.quantile([clip.seconds for clip in formats], UNCROPPED, method="higher"))
    return max(0.1, min(MAX_SECONDS, math.ceil(round(10 * seconds, 3)) / 10))


def describe_cropping(formats: Sequence[ClipFormat], seconds: float) -> str:
    """Return in one line that most clips lose more than half of their audio; empty if they do not.

    Args:
        formats: formats of some clips.
        seconds: length to which clips are cropped.
    """
    median = float(np.median([clip.seconds for clip in formats])) if formats else 0.0
    if median <= MUCH_LONGER * seconds:
        return ""
    lengths = f"most files are much longer (median {median:.0f} s) than clips"
    return f"{lengths}, and only {seconds:g} s of each are used"


def default_hop_length(sample_rate: int, seconds: float) -> int:
    """Return the hop in samples: 10 ms for short clips, 23 ms for those of 5 s and more."""
    return max(1, round(sample_rate * min(MAX_HOP_S, max(MIN_HOP_S, seconds / TARGET_FRAMES))))


def default_n_mels(sample_rate: int, n_fft: int, fmin: float, fmax: float) -> int:
    """Return the largest number of mel bands, up to 128, of which the FFT resolves the lowest ones."""
    low, high = hz_to_mel(fmin), hz_to_mel(fmax)
    for n_mels in range(DEFAULT_N_MELS, N_MELS_STEP, -N_MELS_STEP):
        centers = mel_to_hz(np.linspace(low, high, n_mels + 2))
        if np.diff(centers).min() >= sample_rate / n_fft:
            return n_mels
    return N_MELS_STEP


def describe_choice(settings: FeatureSettings, features: FeatureConfig) -> str:
    """Return in one line what was chosen; empty if the settings left nothing out."""
    mel, chosen = features.mel, []
    if settings.seconds is None:
        chosen.append(f"clips of {features.seconds:g} s")
    if settings.mel.sample_rate is None:
        chosen.append(f"{mel.sample_rate} Hz")
    if settings.mel.hop_length is None:
        chosen.append(f"a hop of {1000 * mel.hop_length / mel.sample_rate:.0f} ms")
    if settings.mel.n_fft is None:
        chosen.append(f"windows of {1000 * mel.n_fft / mel.sample_rate:.0f} ms")
    if settings.mel.n_mels is None:
        chosen.append(f"{mel.n_mels} mel bands")
    return ", ".join(chosen)
