"""Lengths and sample rates of many recordings, from the headers of their files."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from pipeline.audio.clip_files import MAX_BYTES_AHEAD, FetchedFile, with_rows_read
from pipeline.audio.decode import AudioDecodeError
from pipeline.audio.recordings import Recording, read_recording
from pipeline.io.concurrent import map_concurrently
from pipeline.io.console import Progress


def read_headers(paths: pd.Series) -> Iterator[Recording | None]:
    """Yield length and sample rate of each recording, read concurrently with progress.

    None for one that cannot be read: the reason is found again, and reported, when its window is read.

    Raises:
        UserError: the object store of a recording cannot be reached.
    """
    with Progress("reading lengths", len(paths), "recordings") as progress:
        sources = with_rows_read(paths)
        for recording in map_concurrently(_read_header, sources, item_bytes=_size, max_bytes=MAX_BYTES_AHEAD):
            yield recording
            progress.add(1)
        progress.finish()


def _size(source: str | FetchedFile) -> int:
    """Return the bytes of a source that are in memory."""
    return len(source.outcome) if isinstance(source, FetchedFile) and isinstance(source.outcome, bytes) else 0


def _read_header(source: str | FetchedFile) -> Recording | None:
    try:
        return read_recording(source)
    except AudioDecodeError:
        return None
