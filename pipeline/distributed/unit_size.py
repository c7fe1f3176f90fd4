"""Number of clips of a work unit: enough units for a large cluster, and not more than they are worth.

A unit costs Ray about 10 ms, and a few requests to an object store; a clip of a few seconds costs a core 2 ms
or more. So units have up to 64 clips while there are fewer than a thousand of them, and more clips from then
on: training reads shards one by one. Long recordings take longer, by their size, and get smaller units. The
size depends on the data only, so that a job can be resumed on any cluster, and it is a power of two, so that
a few more files do not change it.

Clips inside Parquet files are an exception: a worker reads a row group from its start to the last clip of its
unit, so that units have at least some tens of clips, however long these are.
"""

from __future__ import annotations

import math

import pandas as pd

from pipeline.io.row_location import parse_row

# Units that keep a small cluster busy, for which they may become as small as `smallest`, and a large one.
FEW_UNITS, MANY_UNITS = 64, 1024
# Clips whose decoding hides the cost of a unit.
WORTHWHILE_CLIPS = 64
# Larger files count as several clips: 6 seconds of uncompressed stereo, or a minute of MP3.
CLIP_BYTES = 1 << 20
# Rows of a Parquet file in a unit at least: of the 100 rows that row groups mostly have.
MIN_ROWS = 32


def unit_size(clips: pd.DataFrame, smallest: int, largest: int, worthwhile: int = WORTHWHILE_CLIPS) -> int:
    """Return the number of clips of a work unit.

    Args:
        clips: manifest; without the column `size` all clips count as short.
        smallest: minimum for short clips.
        largest: maximum, by the memory that the results of a unit take.
        worthwhile: short clips whose cost hides that of the unit itself.
    """
    if "path" in clips and len(clips) and parse_row(clips["path"].iloc[0]) is not None:
        smallest, clips = max(smallest, MIN_ROWS), clips[["path"]]
    enough = max(smallest, min(worthwhile, len(clips) / FEW_UNITS)) / _weight(clips)
    size = math.ceil(max(1, enough, len(clips) / MANY_UNITS))
    return min(largest, 1 << (size - 1).bit_length())


def _weight(clips: pd.DataFrame) -> float:
    """Return how many short clips an average clip counts as; at least 1."""
    if "size" not in clips or clips.empty:
        return 1.0
    return max(1.0, float(clips["size"].mean()) / CLIP_BYTES)
