"""Windows of a recording: where they begin, and their names."""

from __future__ import annotations

import math

# A rest at the end of a recording that is shorter than this fraction of a window gets no window of its own.
MIN_REST = 0.1


def window_starts(seconds: float, window: float, hop: float) -> list[float]:
    """Return the starts of the windows of a recording, in seconds: multiples of the hop, rounded to 1 ms.

    The last window may reach beyond the end. A recording that is shorter than a window has one.

    Args:
        seconds: length of the recording.
        window: length of a window in seconds.
        hop: distance between starts in seconds, greater than 0.
    """
    rest = seconds - window - MIN_REST * window
    count = 1 if rest <= 0 else 1 + math.ceil(rest / hop - 1e-9)
    return [round(i * hop, 3) for i in range(count)]


def window_id(recording_id: str, start: float) -> str:
    """Return the clip id of the window that begins at `start` seconds; ids sort as the windows do."""
    return f"{recording_id}@{start:010.3f}"


def recording_of(clip_id: str) -> str:
    """Return the recording of a window, given by its clip id."""
    return clip_id.rpartition("@")[0]
