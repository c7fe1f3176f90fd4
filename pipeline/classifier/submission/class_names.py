"""Names of classes as others write them: in another case or Unicode form, with other separators of words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from pipeline.data.clips import normalize_id, shown_list

# Common parts of column names, such as `p_`, that are tried, the most frequent ones.
MAX_AFFIXES = 20
_NEGATIVE_FORMS = {
    "0", "no", "false", "negative", "neg", "none", "absent", "background", "noise", "other", "nothing",
}  # fmt: skip


def is_negative(name: str, class_names: Sequence[str]) -> bool:
    """Return whether a class means the absence of the other one, such as `noise` or `no_whale`."""
    form = normal_form(name)
    absent = {f"{word}_{normal_form(other)}" for other in class_names for word in ("no", "not", "non")}
    return len(class_names) > 1 and (form in _NEGATIVE_FORMS or form in absent)


def match_classes(columns: Sequence[str], class_names: Sequence[str]) -> dict[str, str | None]:
    """Return the class of each column, or None.

    Names are compared exactly, then without case, Unicode form and separators of words; then all columns may
    have one common prefix or suffix, such as `p_dog` and `p_rain`.
    """
    exact = set(class_names)
    if exact.issuperset(columns):
        return {column: column for column in columns}
    forms, column_forms = unique_forms(class_names), {column: normal_form(column) for column in columns}
    found = Counter(affix for form in column_forms.values() for affix in _affixes(form, forms))
    affixes = {("", "")} | {affix for affix, _ in found.most_common(MAX_AFFIXES)}
    matches = [_match_with_affixes(column_forms, exact, forms, *affix) for affix in sorted(affixes)]
    return max(matches, key=lambda classes: sum(name is not None for name in classes.values()))


def _affixes(column: str, forms: Collection[str]) -> set[tuple[str, str]]:
    """Return what surrounds names of classes in a column name, if it is separated by underscores."""
    words = column.split("_")
    ranges = [(start, end) for start in range(len(words)) for end in range(start + 1, len(words) + 1)]
    return {
        ("".join(f"{word}_" for word in words[:start]), "".join(f"_{word}" for word in words[end:]))
        for start, end in ranges
        if "_".join(words[start:end]) in forms
    }


def _match_with_affixes(
    columns: Mapping[str, str], class_names: Collection[str], forms: dict[str, str], prefix: str, suffix: str
) -> dict[str, str | None]:
    """Return the class of each column, given by its normal form; a class has one column only."""
    classes: dict[str, str | None] = {}
    used = {column for column in columns if column in class_names}
    for column, form in columns.items():
        inside = form.removeprefix(prefix).removesuffix(suffix)
        complete = form == f"{prefix}{inside}{suffix}"
        name = forms.get(inside) if complete else None
        if column in class_names:
            classes[column] = column
        elif name is None or name in used:
            classes[column] = None
        else:
            classes[column] = name
            used.add(name)
    return classes


def unique_forms(class_names: Sequence[str]) -> dict[str, str]:
    """Return the class of each normal form that only one class has."""
    forms: dict[str, list[str]] = {}
    for name in class_names:
        forms.setdefault(normal_form(name), []).append(name)
    return {form: names[0] for form, names in forms.items() if len(names) == 1}


def normal_form(name: str) -> str:
    """Return a name in composed Unicode (NFC) and lower case, with underscores between words."""
    return join_words(re.sub(r"[\s_-]+", " ", normalize_id(name).casefold()).strip())


def join_words(name: str) -> str:
    return "_".join(name.split())


def available(class_names: Sequence[str]) -> str:
    return f"available: {shown_list(class_names, 20)}"
