"""Sample rates and lengths of some of the clips, from the headers of their files."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import soundfile

from pipeline.audio.clip_files import RemoteFile
from pipeline.audio.decoding.decoder_output import hide_mpg123_messages
from pipeline.audio.feature_defaults import ClipFormat
from pipeline.io.concurrent import map_concurrently
from pipeline.io.storage import is_store_uri

# Clips that are looked at: on disk, and in object stores, of which whole files are read.
MAX_LOCAL_CLIPS, MAX_REMOTE_CLIPS, MAX_REMOTE_BYTES = 200, 32, 16_000_000
# Longer files have no usable length in their header.
MAX_CLIP_SECONDS = 1e6


def read_formats(clips: Any) -> list[ClipFormat]:
    """Return the formats of evenly spaced clips; those that libsndfile cannot read are left out.

    Args:
        clips: manifest with the columns `path` and `size`.
    """
    paths = clips["path"]
    if len(clips) and is_store_uri(paths.iloc[0]):
        small = paths[clips["size"].between(1, MAX_REMOTE_BYTES)]
        files = map_concurrently(RemoteFile.fetch, _evenly_spaced(small, MAX_REMOTE_CLIPS))
        sources = (file.outcome for file in files if isinstance(file.outcome, bytes))
        return list(_formats(map(io.BytesIO, sources)))
    return list(_formats(_evenly_spaced(paths, MAX_LOCAL_CLIPS)))


def _evenly_spaced(paths: Any, limit: int) -> list[str]:
    return [paths.iloc[len(paths) * i // limit] for i in range(limit)] if len(paths) > limit else list(paths)


def _formats(files: Any) -> Iterator[ClipFormat]:
    with hide_mpg123_messages():
        for file in files:
            try:
                info = soundfile.info(file)
            except (OSError, ValueError, RuntimeError):  # a broken file is reported when it is extracted
                continue
            if 0 < info.duration < MAX_CLIP_SECONDS:
                yield ClipFormat(info.samplerate, info.duration)
