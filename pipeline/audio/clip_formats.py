"""Sample rates and lengths of some of the clips, from the headers of their files."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import soundfile

from pipeline.audio.clip_files import FetchedFile, is_row
from pipeline.audio.decode import AudioDecodeError
from pipeline.audio.decoding.decoder_output import hide_mpg123_messages
from pipeline.audio.feature_defaults import ClipFormat
from pipeline.audio.parquet_rows import first_rows_of_group
from pipeline.audio.recordings import read_recording
from pipeline.io.concurrent import map_concurrently
from pipeline.io.errors import UserError
from pipeline.io.row_location import parse_row
from pipeline.io.storage import is_store_uri

# Clips that are looked at: on disk, and in object stores, of which whole files are read up to some size, and
# ranges of a few larger ones if there are no others.
MAX_LOCAL_CLIPS, MAX_REMOTE_CLIPS, MAX_REMOTE_BYTES, MAX_LARGE_CLIPS = 200, 32, 16_000_000, 8
# Objects of at most this size in bytes have no long recordings: 5 s of stereo at 48 kHz with 16 bits.
SHORT_CLIP_BYTES = 1_000_000
# Row groups of Parquet files of which the first rows are read, and how many of them.
MAX_ROW_GROUPS, MAX_ROWS = 8, 4
# Longer files have no usable length in their header.
MAX_CLIP_SECONDS = 1e6


def read_formats(clips: Any) -> list[ClipFormat]:
    """Return the formats of evenly spaced clips; those that libsndfile cannot read are left out.

    Args:
        clips: manifest with the columns `path` and `size`.
    """
    paths = clips["path"].drop_duplicates()  # the windows of a recording have the same
    if len(clips) and is_row(paths.iloc[0]):
        return list(_formats(_first_rows(_evenly_spaced(paths, MAX_ROW_GROUPS))))
    if len(clips) and is_store_uri(paths.iloc[0]):
        sizes = clips["size"][paths.index]
        small = _evenly_spaced(paths[sizes.between(1, MAX_REMOTE_BYTES)], MAX_REMOTE_CLIPS)
        if small:
            return list(_formats(map_concurrently(FetchedFile.fetch, small)))
        return _formats_of_ranges(paths[sizes > MAX_REMOTE_BYTES])
    return list(_formats(_evenly_spaced(paths, MAX_LOCAL_CLIPS)))


def read_long_formats(clips: Any) -> list[ClipFormat]:
    """Return the formats of clips as `read_formats`, where few bytes are read for them.

    In object stores, ranges of a few objects are read, and only if most are too large for clips of seconds.
    """
    in_store = clips["path"].map(is_store_uri).to_numpy(bool)
    stored = clips[in_store]
    objects = stored[np.array([not is_row(path) for path in stored["path"]], bool)]
    may_be_long = objects["size"].median() > SHORT_CLIP_BYTES
    return read_formats(clips[~in_store]) + (_formats_of_ranges(objects["path"]) if may_be_long else [])


def _formats_of_ranges(paths: Any) -> list[ClipFormat]:
    sample = _evenly_spaced(paths, MAX_LARGE_CLIPS)
    return list(filter(None, map_concurrently(_format, sample)))


def _evenly_spaced(paths: Any, limit: int) -> list[str]:
    return [paths.iloc[len(paths) * i // limit] for i in range(limit)] if len(paths) > limit else list(paths)


def _first_rows(paths: list[str]) -> Iterator[FetchedFile]:
    """Yield the first rows of the row groups of some rows of Parquet files."""
    done: set[str] = set()
    for location in filter(None, map(parse_row, paths)):
        with suppress(OSError, ValueError):  # a broken file is reported when it is extracted
            rows = first_rows_of_group(location, MAX_ROWS)
            yield from (FetchedFile.fetch(row) for row in rows if row not in done)
            done.update(rows)


def _formats(files: Iterable[str | FetchedFile]) -> Iterator[ClipFormat]:
    return filter(None, map(_format, files))


def _format(file: str | FetchedFile) -> ClipFormat | None:
    """Return the format of a file; None if it is broken, which is reported when it is extracted."""
    try:
        seconds, sample_rate = _header(file) or read_recording(file)
    except (AudioDecodeError, UserError):
        return None
    return ClipFormat(sample_rate, seconds) if 0 < seconds < MAX_CLIP_SECONDS else None


def _header(file: str | FetchedFile) -> tuple[float, int] | None:
    """Return length and sample rate from the header of a file, the fastest way; None if that fails."""
    if isinstance(file, str) and is_store_uri(file):
        return None
    try:
        with hide_mpg123_messages():
            info = soundfile.info(io.BytesIO(file.read()) if isinstance(file, FetchedFile) else file)
    except (OSError, ValueError, RuntimeError):
        return None
    return info.duration, info.samplerate
