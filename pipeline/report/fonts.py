"""Text of images in any script: fonts that have its characters, else a transliteration.

Matplotlib draws a box for a character that no font of the text has, with a warning for each. Its own font has
Latin, Greek, Cyrillic, Arabic and Hebrew; installed fonts are searched only for characters beyond those.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from anyascii import anyascii

from pipeline.io.console import logger

if TYPE_CHECKING:
    from matplotlib.font_manager import FontProperties

# Characters of a text; longer ones would leave the image.
MAX_LENGTH = 60
# Fonts of one image, in addition to the default one: each is loaded.
MAX_FONTS = 8
# Fonts with boxes instead of characters.
_PLACEHOLDER_FONTS = ("last resort", "adobe blank", "unicode bmp fallback")
_DEFAULT_FONT = "DejaVu Sans"


def readable_texts(texts: Iterable[str]) -> tuple[list[str], FontProperties]:
    """Return texts that an image can show, in one line each, and the fonts for them.

    Characters that no installed font has are transliterated, so that no text has boxes; they are logged once
    per process.
    """
    from matplotlib.font_manager import FontProperties

    lines = [single_line(text) for text in texts]
    needed = {character for line in lines for character in line if not character.isspace()}
    families, missing = _find_fonts(frozenset(needed - _characters(_default_path())))
    _log_missing(missing)
    shown = ["".join(transliterate(c) if c in missing else c for c in line) for line in lines]
    return [_truncate(text) for text in shown], FontProperties(family=[_DEFAULT_FONT, *families])


def single_line(text: str) -> str:
    """Return a text without line breaks, control characters and formatting characters.

    A text of nothing else is escaped.
    """
    text = unicodedata.normalize("NFC", text)
    visible = (
        " " if character.isspace() else "" if _is_invisible(character) else character for character in text
    )
    return " ".join("".join(visible).split()) or ascii(text)[1:-1].strip()


def transliterate(character: str) -> str:
    """Return a character in ASCII, such as `Gou` or `:dog2:`; its code point if it has no such form.

    Marks of other characters are left out.
    """
    is_mark = unicodedata.category(character).startswith("M")
    return anyascii(character) or ("" if is_mark else f"[U+{ord(character):04X}]")


def _is_invisible(character: str) -> bool:
    """Return whether a character has no shape: control codes, and formatting of other characters."""
    return (
        unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn")
        or "\ufe00" <= character <= "\ufe0f"
        or "\U0001f3fb" <= character <= "\U0001f3ff"
    )


def _truncate(text: str) -> str:
    return text if len(text) <= MAX_LENGTH else text[: MAX_LENGTH - 1] + "…"


@cache
def _find_fonts(characters: frozenset[str]) -> tuple[list[str], frozenset[str]]:
    """Return families of installed fonts that have characters, and those that none of them has."""
    families: list[str] = []
    missing = characters
    if missing:
        for path in _installed_fonts():
            found = missing & _characters(path)
            if found and (family := _register(path)):
                families.append(family)
                missing = missing - found
            if not missing or len(families) == MAX_FONTS:
                break
    return families, missing


@cache
def _installed_fonts() -> list[str]:
    """Return the font files of the system, regular ones first.

    Not those that matplotlib lists: its list is cached on the disk, and does not contain fonts that were
    installed later.
    """
    from matplotlib.font_manager import findSystemFonts

    def is_styled(path: str) -> bool:
        name = Path(path).stem.lower()
        return any(style in name for style in ("bold", "italic", "oblique", "light", "thin", "black", "mono"))

    return sorted(findSystemFonts(), key=lambda path: (is_styled(path), path))


def _default_path() -> str:
    from matplotlib.font_manager import FontProperties, findfont

    return str(findfont(FontProperties(family=_DEFAULT_FONT)))


@cache
def _characters(path: str) -> frozenset[str]:
    """Return the characters of a font; none if it cannot be used."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(path)
        if any(name in font.family_name.lower() for name in _PLACEHOLDER_FONTS):
            return frozenset()
        return frozenset(map(chr, font.get_charmap()))
    except (OSError, RuntimeError, ValueError):
        return frozenset()


def _register(path: str) -> str | None:
    """Make a font file available to matplotlib; return its family, or None if it cannot be used."""
    from matplotlib.font_manager import fontManager
    from matplotlib.ft2font import FT2Font

    try:
        fontManager.addfont(path)
        return str(FT2Font(path).family_name)
    except (OSError, RuntimeError, ValueError, NotImplementedError):
        return None  # such as a font of bitmaps


@cache
def _log_missing(characters: frozenset[str]) -> None:
    if characters:
        logger.warning(
            "no installed font has %s: images show replacements (reports show the names themselves); install "
            "a font such as Noto Sans CJK",
            " ".join(sorted(characters)[:10]) + (" …" if len(characters) > 10 else ""),
        )
