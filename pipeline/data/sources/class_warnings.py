"""Warnings about classes that cannot be learned, or that look like one class."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping

from pipeline.data.clips import shown, shown_list
from pipeline.data.labels import SEPARATOR
from pipeline.data.sources.column_names import LABEL_COLUMNS
from pipeline.io.text import first_messages

# Characters by which people separate classes, in addition to `SEPARATOR`; they may be in names as well.
_OTHER_SEPARATORS = re.compile(r"[,|/+&]")


def class_warnings(
    counts: Mapping[str, int], multi_label: bool = False, label_column: str | None = None, hint: str = ""
) -> list[str]:
    """Return warnings about classes, given with their numbers of files.

    In a multi-label dataset, the presence of a single class can be learned. `label_column` is the setting,
    `hint` what to do if there is one class only.
    """
    warnings = []
    if label_column is not None and label_column.lower() not in LABEL_COLUMNS and counts.keys() <= {"0", "1"}:
        warnings.append(
            f"classes are the values of column {shown(label_column)}, {shown_list(sorted(counts))}: if it "
            "states whether the class of its name is there, name all such columns, as in --label-column "
            f"{label_column},OTHER"
        )
    if len(counts) < 2 and not multi_label:
        warnings.append(
            f"only one class, '{next(iter(counts))}': a GAN can learn it, a classifier needs two or more"
            + (f"; {hint}" if hint else "")
        )
    if single := sorted(name for name, count in counts.items() if count == 1):
        classes = (
            "class {} has a single clip, so it"
            if len(single) == 1
            else "classes {} have a single clip, so each"
        )
        warnings.append(f"{classes.format(shown_list(single))} cannot be both trained on and validated")
    if not multi_label and (joined := [name for name in sorted(counts) if SEPARATOR in name]):
        classes = "class {} is" if len(joined) == 1 else "classes {} are each"
        warnings.append(
            f"{classes.format(shown_list(joined))} read as one class: add --multi-label if '{SEPARATOR}' "
            "separates classes"
        )
    if several := [name for name in sorted(counts) if _has_other_class(name, counts)]:
        classes = "class {} is" if len(several) == 1 else "classes {} are each"
        fix = "" if multi_label else ", and add --multi-label"
        warnings.append(
            f"{classes.format(shown_list(several))} read as one class, with the name of another in it: if "
            f"these are several classes of a clip, write '{SEPARATOR}' between them{fix}"
        )
    similar: dict[str, list[str]] = {}
    for name in sorted(counts):
        similar.setdefault(_plain_name(name), []).append(name)
    groups = [names for names in similar.values() if len(names) > 1]
    return warnings + first_messages(
        [
            f"classes {shown_list(names)} differ only in case, blanks, invisible characters or zeros of a "
            "number"
            for names in groups
        ]
    )


def _has_other_class(name: str, names: Collection[str]) -> bool:
    """Return whether a name seems to be those of several classes, at least one of which there is as well."""
    parts = {part.strip() for part in _OTHER_SEPARATORS.split(name)} - {"", name}
    return not parts.isdisjoint(names)


def _plain_name(name: str) -> str:
    """Return a class name without case, blanks, invisible characters, and zeros as in `01` and `1.0`."""
    visible = "".join(character for character in name if unicodedata.category(character) != "Cf")
    number = re.fullmatch(r"\s*0*(\d+)(?:\.0*)?\s*", visible)
    return number[1] if number else " ".join(visible.casefold().split())
