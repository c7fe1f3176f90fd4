"""Output on streams that cannot represent every character, such as ASCII in cron jobs and minimal containers.

A name or a sign that cannot be printed must not end a command, after hours of work or at all.
"""

from __future__ import annotations

import codecs
import io
import sys
import unicodedata

ERRORS = "melray.spell"
# Characters of messages whose closest ASCII text is not their Unicode decomposition.
_SPELLINGS = str.maketrans(
    {"±": "+-", "→": "->", "←": "<-", "–": "-", "—": "-", "×": "x", "·": "*", "≥": ">=", "≤": "<=", "ß": "ss"}
)


def spell_unprintable_characters() -> None:
    """Let stdout and stderr replace characters that they cannot encode by similar ones, or by `?`."""
    codecs.register_error(ERRORS, _replace)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ERRORS)


def _replace(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if "\udc80" <= character <= "\udcff" and error.encoding == "ascii":
        # A byte that Python could not decode, of an argument or a file name: unchanged, as `ls` prints it.
        return bytes([ord(character) - 0xDC00]), error.start + 1
    return spelling(character), error.start + 1


def spelling(character: str) -> str:
    """Return the ASCII text that is closest to a character, such as `u` for `ü`; `?` if there is none."""
    text = unicodedata.normalize("NFKD", character.translate(_SPELLINGS))
    return text.encode("ascii", "ignore").decode() or "?"
