"""Recordings and their windows: the manifest of a prediction in which each window is a clip."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from pipeline.data.recording_headers import MapBatches, map_batches_here, read_headers
from pipeline.data.windows import window_id, window_starts


@dataclass(frozen=True)
class RecordingList:
    """Recordings, their lengths, and the grid of their windows."""

    clips: pd.DataFrame
    """Manifest with one row per recording."""
    seconds: np.ndarray
    """Length of each recording; nan for one that cannot be read, which has one window."""
    window: float
    hop: float
    counts: np.ndarray = field(init=False)
    """Number of windows of each recording, int64."""
    first: np.ndarray = field(init=False)
    """Position of the first window of each recording in the list of all windows, int64."""

    def __post_init__(self) -> None:
        counts = [
            1 if math.isnan(seconds) else len(window_starts(seconds, self.window, self.hop))
            for seconds in self.seconds.tolist()
        ]
        object.__setattr__(self, "counts", np.array(counts, np.int64))
        object.__setattr__(self, "first", np.cumsum([0, *counts[:-1]]))

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def num_windows(self) -> int:
        """Number of windows of all recordings."""
        return int(self.counts.sum())

    def starts(self) -> np.ndarray:
        """Return the first second of every window `[shape=(num_windows,)]`, rounded to 1 ms."""
        index = np.arange(self.num_windows) - np.repeat(self.first, self.counts)
        return np.round(index * self.hop, 3)

    def windows(self) -> pd.DataFrame:
        """Return the manifest of all windows, by recording and start."""
        rows = self.clips.loc[self.clips.index.repeat(self.counts)].reset_index(drop=True)
        starts = self.starts()
        rows["group"] = rows["clip_id"]
        rows["clip_id"] = list(map(window_id, rows["clip_id"], starts.tolist()))
        rows["start"], rows["end"] = starts, np.round(starts + self.window, 3)
        return rows


def read_recordings(
    clips: pd.DataFrame, window: float, hop: float, map_batches: MapBatches = map_batches_here
) -> RecordingList:
    """Read the lengths of all recordings of a manifest, concurrently; `map_batches` is as for `read_headers`.

    Raises:
        UserError: the object store of a recording cannot be reached.
    """
    headers = read_headers(clips["path"], map_batches)
    seconds = [math.nan if recording is None else recording.seconds for recording in headers]
    return RecordingList(clips, np.array(seconds, np.float64), window, hop)
