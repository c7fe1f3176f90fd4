"""Lengths and sample rates of many recordings, from the headers of their files."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

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
        for recording in map_concurrently(_read_header, paths):
            yield recording
            progress.add(1)
        progress.finish()


def _read_header(path: str) -> Recording | None:
    try:
        return read_recording(path)
    except AudioDecodeError:
        return None
