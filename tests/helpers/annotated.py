"""Recordings with tones at known times, and their annotations as Audacity labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from tests.helpers.sounds import RATE, tone

# Start, end and class of an event; class `tone 1` is a tone of 600 Hz.
Event = tuple[float, float, str]


def write_recording(path: Path, seconds: float, events: list[Event], seed: int = 0) -> None:
    """Write noise with tones, and `<name>.txt` with their times."""
    samples = 0.01 * np.random.default_rng(seed).standard_normal(round(seconds * RATE)).astype(np.float32)
    for start, end, label in events:
        span = slice(round(start * RATE), round(end * RATE))
        samples[span] += tone(300 * 2 ** int(label[-1]), seconds)[span]
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, RATE)
    lines = [f"{start}\t{end}\t{label}\n" for start, end, label in events]
    path.with_suffix(".txt").write_text("".join(lines))


def write_recordings(folder: Path, count: int = 6, seconds: float = 12.0) -> Path:
    """Write recordings with an event of each of three classes, at times that differ, and silence after it."""
    for number in range(count):
        events = [
            (1.0 + label + 0.1 * number, 1.8 + label + 0.1 * number, f"tone {label}") for label in range(3)
        ]
        write_recording(folder / f"rec {number}.wav", seconds, events, seed=number)
    return folder
