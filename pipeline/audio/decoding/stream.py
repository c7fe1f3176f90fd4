"""One audio stream of a file."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Stream:
    """A byte range that a decoder can read as a file.

    It consists of `prefix`, a header with a corrected length, and the bytes `start` to `end` of the file.
    """

    start: int
    end: int
    prefix: bytes = b""
    declared_bytes: int = 0
    """Bytes of audio that the header declares, if that is more than there is; otherwise 0."""
    present_bytes: int = 0
    """Bytes of audio that are there, if `declared_bytes` is set."""
    declared_frames: int = 0
    """Samples per channel that the header of such a compressed stream declares, 0: not declared."""
    cut: bool = False
    """Whether an unknown amount is missing at the end."""
    has_gaps: bool = False
    """Whether bytes that the decoder leaves out are between the frames that were found."""
    warning: str = ""
    """Why the samples may not be what they should be."""


def split_at(starts: list[int], size: int) -> list[Stream]:
    """Split a file of `size` bytes at the starts of its streams; bytes before the first one belong to it."""
    return [Stream(start, end) for start, end in pairwise([0, *starts[1:], size])]
