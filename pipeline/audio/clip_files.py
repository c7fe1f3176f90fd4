"""Files of clips in object stores, read by threads ahead of decoding: a request takes milliseconds."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.io.concurrent import map_concurrently
from pipeline.io.storage import is_store_uri, to_path

# Maximum size of the files that are being read or wait to be decoded; a larger one is read alone.
MAX_BYTES_AHEAD = 64 << 20
# Assumed for a file whose size is not in the manifest.
UNKNOWN_BYTES = 4 << 20


@dataclass(frozen=True)
class RemoteFile:
    """A file of an object store that has been read, or could not be."""

    uri: str
    outcome: bytes | Exception

    @classmethod
    def fetch(cls, uri: str) -> RemoteFile:
        """Read the file; an error is raised later, by `read`."""
        try:
            return cls(uri, to_path(uri).read_bytes())
        except Exception as error:
            return cls(uri, error)

    def read(self) -> bytes:
        """Return the content.

        Raises:
            FileNotFoundError: no such object.
            ValueError: the store cannot have an object of that name.
            OSError: the object store cannot be reached.
        """
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def clip_sources(clips: Sequence[dict[str, Any]], ahead: bool = True) -> Generator[str | RemoteFile]:
    """Yield what `load_clip` reads of each clip: its path, or a file of an object store that has been read.

    Of a window, which has a `start`, the path or URI is yielded: `read_windows` reads ranges of long objects.

    Args:
        clips: `path` and `size` of each clip, as in the manifest.
        ahead: read files of object stores before they are due; otherwise yield their URIs.
    """
    if not ahead or not any(map(_is_fetched, clips)):
        yield from (clip["path"] for clip in clips)
    else:
        yield from map_concurrently(_source, clips, item_bytes=_size, max_bytes=MAX_BYTES_AHEAD)


def _source(clip: dict[str, Any]) -> str | RemoteFile:
    return RemoteFile.fetch(clip["path"]) if _is_fetched(clip) else clip["path"]


def _is_fetched(clip: dict[str, Any]) -> bool:
    return is_store_uri(clip["path"]) and "start" not in clip


def _size(clip: dict[str, Any]) -> int:
    if not _is_fetched(clip):
        return 0
    return clip["size"] if clip["size"] >= 0 else UNKNOWN_BYTES
