"""Names for Ray, whose metrics accept ASCII characters only: any other is an error wherever one is set."""

from __future__ import annotations

from urllib.parse import quote

# Names end up in names of log files, of 255 bytes at most, with others.
MAX_LENGTH = 60
_ASCII = "".join(map(chr, range(128)))


def ray_name(name: str) -> str:
    """Return a name with its other characters percent-encoded, cut to 60 characters: it may not be unique."""
    return quote(name, safe=_ASCII, errors="surrogateescape")[:MAX_LENGTH]
