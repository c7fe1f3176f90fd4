"""Labels of clips in which several classes sound: one text, names of classes in sorted order joined by `;`.

An empty text is a clip without any class (background). In shapes: N number of clips, C number of classes.
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

SEPARATOR = ";"
# A text in quotes, as Python and JSON write it, and a list of such texts.
_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")
_ITEMS = rf"\s*(?:(?:{_QUOTED.pattern})\s*(?:,\s*)?)"
_LIST = re.compile(rf"\[{_ITEMS}*\]|\({_ITEMS}+\)|\{{{_ITEMS}+\}}")

# A list of numbers, with or without commas.
_NUMBER = r"-?\d+(?:\.\d+)?"
_NUMBERS = re.compile(rf"\[\s*{_NUMBER}(?:(?:\s*,\s*|\s+){_NUMBER})*\s*(?:,\s*)?\]")
# Several answers of a person, as Label Studio exports them.
_CHOICES = re.compile(rf'\{{\s*"choices"\s*:\s*(\[{_ITEMS}*\])\s*\}}')


def join_labels(names: Iterable[str]) -> str:
    """Return the label of a clip of these classes, each named once; empty without any."""
    return SEPARATOR.join(sorted(set(names)))


def split_labels(label: str) -> list[str]:
    """Return the classes of a label, sorted; blanks around them and empty ones are left out."""
    return sorted({name.strip() for name in label.split(SEPARATOR)} - {""})


def parse_label_list(text: str) -> list[str]:
    """Return the classes in the text of a list: `['a', 'b']` as Python writes it, `a;b`, `a|b` or `a,b`.

    Also tuples, sets, the arrays of NumPy, which have no commas, `['a' 'b']`, lists of numbers, `[1, 2]`, and
    the answers of Label Studio, `{"choices": ["a", "b"]}`.

    Raises:
        ValueError: brackets without a list of texts or numbers in them.
    """
    text = text.strip()
    if match := _CHOICES.fullmatch(text):
        text = match[1]
    if _NUMBERS.fullmatch(text):
        return split_labels(SEPARATOR.join(re.findall(_NUMBER, text)))
    if is_list_text(text):
        return split_labels(SEPARATOR.join(map(ast.literal_eval, _QUOTED.findall(text))))
    if text.startswith("["):
        raise ValueError(f"{text!r} is not a list of class names such as ['a', 'b']")
    separator = next((character for character in (SEPARATOR, "|") if character in text), ",")
    return split_labels(text.replace(separator, SEPARATOR))


def is_list_text(text: str) -> bool:
    """Return whether a text is that of a list of texts or numbers, as `['a', 'b']` and `[1, 2]`, and not the
    name of a class.
    """
    text = text.strip()
    if match := _CHOICES.fullmatch(text):
        text = match[1]
    return bool(_NUMBERS.fullmatch(text)) or (bool(_LIST.fullmatch(text)) and _is_python(text))


def check_no_object(text: str) -> None:
    """Check that a text is not that of a JSON object, or of a list of objects, which names no class.

    Raises:
        ValueError: it is, as annotated regions that Label Studio exports into one value.
    """
    text = text.strip()
    if not text.startswith(("{", "[")) or is_list_text(text):
        return
    try:
        value = json.loads(text)
    except ValueError:
        return
    if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, dict) for item in value)):
        example = text if len(text) <= 60 else f"{text[:60]}…"
        raise ValueError(
            f"{example!r} is a JSON object, not the name of a class: write a row for each annotated event, "
            "with the columns path,start,end,label"
        )


def _is_python(text: str) -> bool:
    try:
        ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return False
    return True


def target_matrix(labels: Iterable[str], class_names: Sequence[str]) -> np.ndarray:
    """Return which classes each clip has, bool `[shape=(N, C)]`; other names are left out."""
    index = {name: i for i, name in enumerate(class_names)}
    known: dict[str, list[int]] = {}
    texts = list(labels)
    targets = np.zeros((len(texts), len(class_names)), bool)
    for row, text in enumerate(texts):
        if text not in known:
            known[text] = [index[name] for name in split_labels(text) if name in index]
        targets[row, known[text]] = True
    return targets


def count_classes(label_counts: Mapping[str, int], multi_label: bool) -> dict[str, int]:
    """Return the number of clips of each class, sorted by name.

    Args:
        label_counts: number of clips of each label.
        multi_label: whether a label has any number of classes, rather than being the name of one.
    """
    counts: Counter[str] = Counter()
    for label, count in label_counts.items():
        counts.update(dict.fromkeys(split_labels(label) if multi_label else [str(label)], int(count)))
    return dict(sorted(counts.items()))
