"""Sounds that soundscapes are made of: clips of ESC-10, or synthetic ones, cut to their sounding part.

The sounding part makes the times of events true: many clips have silence before and after the sound.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.audio.augment import row_rng
from pipeline.audio.decode import decode
from pipeline.audio.synthesize import CLASS_NAMES, synthesize_event

# A frame sounds if its level is at most so far below that of the loudest frame, in dB.
SOUNDING_DB = 30.0
FRAME_SECONDS = 0.02
# Shorter pauses, such as between ticks, are part of a sound, in seconds.
MAX_PAUSE = 1.0


class Sound(NamedTuple):
    """A sound of one class."""

    label: str
    fold: int
    samples: np.ndarray
    """Its sounding part, float32 `[shape=(num_samples,)]`."""


def sounding_part(samples: np.ndarray, rate: int) -> np.ndarray:
    """Return the part of a clip from the first to the last frame of its longest sound, float32.

    Args:
        samples: mono `[shape=(num_samples,)]`.
        rate: sample rate in Hz.
    """
    frame = round(FRAME_SECONDS * rate)
    frames = samples[: len(samples) // frame * frame].reshape(-1, frame)
    power = np.square(frames, dtype=np.float64).mean(axis=1)
    sounding = np.flatnonzero(power >= power.max() * 10 ** (-SOUNDING_DB / 10))
    breaks = np.flatnonzero(np.diff(sounding) * FRAME_SECONDS > MAX_PAUSE)
    runs = np.split(sounding, breaks + 1)
    longest = max(runs, key=lambda run: power[run[0] : run[-1] + 1].sum())
    return samples[longest[0] * frame : (longest[-1] + 1) * frame].astype(np.float32)


def esc10_sounds(folder: Path, folds: Sequence[int], rate: int = 22_050, per_class: int = 8) -> list[Sound]:
    """Read the clips of some folds of ESC-10, whose names such as `1-100032-A.ogg` begin with the fold.

    Args:
        folder: ESC-10, with a sub-folder such as `001 - Dog bark` for each class.
        folds: folds to read, of 1 to 5.
        rate: sample rate in Hz.
        per_class: clips of each class and fold; there are 8.
    """
    return [
        Sound(class_folder.name[6:], fold, sounding_part(decode(path, rate), rate))
        for class_folder in sorted(path for path in folder.iterdir() if path.is_dir())
        for fold in folds
        for path in sorted(class_folder.glob(f"{fold}-*.ogg"))[:per_class]
    ]


def synthetic_sounds(
    classes: int, folds: Sequence[int], rate: int = 8000, per_class: int = 4, seed: int = 0
) -> list[Sound]:
    """Synthesize sounds of the first of ten classes."""
    return [
        Sound(
            name, fold, sounding_part(synthesize_event(name, row_rng(seed, f"{name}/{fold}", i), rate), rate)
        )
        for name in CLASS_NAMES[:classes]
        for fold in folds
        for i in range(per_class)
    ]
