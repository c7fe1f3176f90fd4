"""Windows of a recording: their settings, where they begin, and their names."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from pydantic import Field, field_validator, model_validator

from models.config import Config

if TYPE_CHECKING:
    import pandas as pd  # slow to import: `melray --help` does not need it

# Shortest distance of windows in seconds: their starts are in milliseconds.
MIN_HOP = 0.001
# A rest at the end of a recording that is shorter than this fraction of a window gets no window of its own.
MIN_REST = 0.1

_OVERLAP = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(%|s)?")


class MinOverlap(NamedTuple):
    """Overlap from which on an event labels a window; one of the values is 0."""

    seconds: float
    fraction: float
    """Fraction of the event, or of the window if that is shorter."""

    def required(self, event: float, windows: np.ndarray) -> np.ndarray:
        """Return the overlap in seconds that an event and windows of these lengths need `[shape=(N,)]`.

        It is never more than both can have, so that an event that is shorter labels the window that has it.
        """
        shorter = np.minimum(event, windows)
        return np.minimum(shorter, np.maximum(self.seconds, self.fraction * shorter))


class WindowConfig(Config):
    """Windows of recordings."""

    window: float | None = Field(None, ge=0.001, le=600)
    """Cut recordings into windows of this many seconds; each is a clip (default: one clip per file)."""
    hop: float | None = Field(None, ge=MIN_HOP, le=600)
    """Seconds from the start of a window to that of the next one (default: `--window`)."""
    min_overlap: str = "0.25"
    """Overlap from which on an annotated event labels a window: seconds such as `0.25`, or a percentage such
    as `20%` of the event, or of the window if that is shorter. A shorter event must be inside completely."""
    background_ratio: float = Field(1.0, ge=0)
    """Number of windows without an event (background) per window with events, at most."""

    @field_validator("min_overlap")
    @classmethod
    def _check_overlap(cls, text: str) -> str:
        if parse_overlap(text) is None:
            raise ValueError("expected seconds such as 0.25, or a percentage up to 100% such as 20%")
        return text

    @model_validator(mode="after")
    def _check_hop(self) -> WindowConfig:
        if self.hop is not None and self.window is None:
            raise ValueError(f"--hop {self.hop:g} needs --window")
        return self

    @model_validator(mode="after")
    def _check_overlap_of_window(self) -> WindowConfig:
        overlap = parse_overlap(self.min_overlap)
        # The default may be longer than a window, as events shorter than it only need to be inside.
        if self.window and overlap and overlap.seconds > max(1.0, self.window):
            percentage = f"{min(100.0, overlap.seconds):g}%"
            raise ValueError(
                f"--min-overlap {self.min_overlap}: seconds, and more than --window {self.window:g}; "
                f"a percentage is written as {percentage}"
            )
        return self


def parse_overlap(text: str) -> MinOverlap | None:
    """Return the overlap that `0.25`, `0.25s` or `20%` stands for; None for another text."""
    match = _OVERLAP.fullmatch(text.strip())
    if match is None:
        return None
    value = float(match[1])
    if match[2] != "%":
        return MinOverlap(value, 0.0)
    return MinOverlap(0.0, value / 100) if value <= 100 else None


def window_starts(seconds: float, window: float, hop: float) -> list[float]:
    """Return the starts of the windows of a recording, in seconds: multiples of the hop, rounded to 1 ms.

    The last window may reach beyond the end, but has at least a tenth of its length in the recording. A
    recording that is shorter than a window has one.

    Args:
        seconds: length of the recording.
        window: length of a window in seconds.
        hop: distance between starts in seconds, greater than 0.
    """
    return [round(i * hop, 3) for i in range(window_count(seconds, window, hop))]


def window_count(seconds: float, window: float, hop: float) -> int:
    """Return the number of windows of a recording, with the arguments of `window_starts`."""
    rest = seconds - window - MIN_REST * window
    if rest <= 0:
        return 1
    # With gaps between windows, the next one would begin after the end.
    last = math.floor((seconds - MIN_REST * window) / hop + 1e-9)
    return 1 + min(last, math.ceil(rest / hop - 1e-9))


def window_id(recording_id: str, start: float) -> str:
    """Return the clip id of the window that begins at `start` seconds; ids sort as the windows do."""
    return f"{recording_id}@{start:010.3f}"


def recording_of(clip_id: str) -> str:
    """Return the recording of a window, given by its clip id."""
    return clip_id.rpartition("@")[0]


def window_sizes(clips: pd.DataFrame) -> pd.DataFrame:
    """Return a manifest of windows in which the column `size` has the bytes of the window, not of the file.

    The length of a recording is taken to be the end of its last window.
    """
    seconds = clips.groupby("path", sort=False)["end"].transform("max")
    sizes = clips["size"] * (clips["end"] - clips["start"]) / seconds
    return clips[["path"]].assign(size=sizes.clip(lower=0).astype("int64"))
