"""Lengths and sample rates of many recordings, from the headers of their files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pandas as pd

from pipeline.audio.clip_files import is_row
from pipeline.audio.decode import AudioDecodeError
from pipeline.audio.features import ClipSource
from pipeline.audio.parquet_batches import RowBatch, row_batches
from pipeline.audio.recordings import Recording, read_recording
from pipeline.io.concurrent import THREADS, map_concurrently
from pipeline.io.console import Progress

# Batches of rows of Parquet files that are read concurrently, those that wait for the ones before, and their
# memory.
_ROW_THREADS, _ROW_AHEAD, _ROW_BYTES = 16, 32, 192 << 20
# Seconds of a core for a row, of which half is for 0.1 MB of it: measured with Ogg and WAV of 5 s.
_ROW_SECONDS = 0.001

# Maps a function over batches of rows, given also the estimated CPU time of all; the results are in order.
MapBatches = Callable[[Callable[[RowBatch], Any], Iterable[RowBatch], float], Iterator[Any]]


def map_batches_here(
    function: Callable[[RowBatch], Any], batches: Iterable[RowBatch], core_seconds: float = 0.0
) -> Iterator[Any]:
    """Map a function over batches by threads, in 192 MB of memory, or what a single batch needs."""
    return map_concurrently(
        function,
        batches,
        _ROW_THREADS,
        _ROW_AHEAD,
        item_bytes=lambda batch: batch.num_bytes,
        max_bytes=_ROW_BYTES,
    )


def read_headers(paths: pd.Series, map_batches: MapBatches = map_batches_here) -> Iterator[Recording | None]:
    """Yield length and sample rate of each recording, read concurrently with progress.

    Rows of Parquet files are read completely, as these have no index of values, but one at a time for each
    thread. None for a recording that cannot be read: the reason is found again, and reported, when its
    window is read.

    Args:
        paths: all of them rows of Parquet files, or none.
        map_batches: reads batches of rows.

    Raises:
        UserError: the object store of a recording cannot be reached.
    """
    with Progress("reading lengths", len(paths), "recordings") as progress:
        is_inside = len(paths) > 0 and is_row(paths.iloc[0])
        for recording in (
            _read_rows(paths, map_batches) if is_inside else map_concurrently(_read_header, paths, THREADS)
        ):
            yield recording
            progress.add(1)
        progress.finish()


def _read_rows(paths: pd.Series, map_batches: MapBatches) -> Iterator[Recording | None]:
    for headers in map_batches(_read_batch, row_batches(paths.tolist()), _ROW_SECONDS * len(paths)):
        yield from headers


def _read_batch(batch: RowBatch) -> list[Recording | None]:
    return [_read_header(file) for file in batch.read()]


def _read_header(source: ClipSource) -> Recording | None:
    try:
        return read_recording(source)
    except AudioDecodeError:
        return None
