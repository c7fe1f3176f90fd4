"""Names of data splits, as people give them to folders and to values in tables."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal

Split = Literal["train", "held out"]

_TRAIN = r"train|training"
_HELD_OUT = r"test|testing|val|valid|validate|validation|eval|evaluation|dev|devel|h[oe]ld[_\- ]?out"
# Words next to it, as in `train_audio`. Others make a class name, as in `train_horn`.
_AFFIX = r"audio|data|set|clips|files|wavs?|sounds?|soundscapes?|recordings?"
# Parts of a split in competitions, as in `train_short_audio`.
_PART = r"short|long|curated|noisy"
# The name of the dataset may precede it, as in `FSDKaggle2018.audio_train`.
_NAME = re.compile(
    rf"(?:[\w\-]+\.)?(?:(?:{_AFFIX})[_\- ]?)?(?:(?P<train>{_TRAIN})|{_HELD_OUT})"
    rf"(?:[_\- ]?(?:{_PART}))?(?:[_\- ]?(?:{_AFFIX}))?",
    re.IGNORECASE,
)
# Further words of values in tables, which may be classes as names of folders.
_WORDS: dict[str, Split] = {
    "trn": "train",
    **dict.fromkeys(("tst", "evaluate", "unseen", "development"), "held out"),
}
# Rows of Kaggle's leaderboards, and those of none, in a column `Usage`; elsewhere they may mean other things.
_COMPETITION_WORDS = ("private", "public", "ignored")
_COMPETITION_COLUMN = "usage"
# Validation next to a training split; the training split of data that has none (DCASE, Clotho).
_DEVELOPMENT = re.compile(r"(?:dev|devel|development)(?:set)?")
# Columns of true and false whose rows belong to a split: `is_test`, `in_train`, `isTraining`.
_FLAG_PREFIX = re.compile(r"(?:is|in)[_\- ]")
# Such names that may mean something else: an annotation is valid; a train can be heard; a rating.
_UNCLEAR_FLAGS = ("valid", "validate")
_UNCLEAR_WITHOUT_PREFIX = ("train", "eval", "evaluation", "dev", "devel")
_TRUE, _FALSE = ("true", "t", "yes", "y", "1", "1.0"), ("false", "f", "no", "n", "0", "0.0")


def split_of(name: str) -> Split | None:
    """Return which split a name stands for; None if it is not the name of a split."""
    match = _NAME.fullmatch(name.strip())
    if match is None:
        return None
    return "train" if match["train"] else "held out"


def split_of_value(value: str) -> Split | None:
    """Return which split a value in a column of splits stands for; None if it is not the name of a split.

    More is recognized than of a folder, which may be a class: a split among other words (`dev-clean`,
    `public_test`) and with a number (`test1`). `train-dev` is None, as its words contradict each other.
    """
    if (split := split_of(value)) is not None:
        return split
    kinds = {kind for word in _words(value) if (kind := _split_of_word(word)) is not None}
    return kinds.pop() if len(kinds) == 1 else None


def is_competition_split(value: str) -> bool:
    """Return whether a value may stand for held-out rows of a competition, as in a column `Usage`."""
    return value.strip().lower() in _COMPETITION_WORDS


def splits_of_values(column: str, values: Iterable[str]) -> dict[str, Split | None]:
    """Return the split of each value of a column, as `split_of_value`.

    Next to a training split, or if the column is named `Usage`, private and public are held-out splits too.
    """
    splits = {value: split_of_value(value) for value in values}
    if "train" in splits.values() or column.strip().lower() == _COMPETITION_COLUMN:
        splits |= {value: "held out" for value in splits if is_competition_split(value)}
    return splits


def is_development(value: str) -> bool:
    """Return whether a value in a column of splits, or a folder, stands for a development set.

    It is the training split if no other value is, and otherwise held out.
    """
    splits = [word.lower() for word in _words(value) if _split_of_word(word) is not None]
    return bool(splits) and all(map(_DEVELOPMENT.fullmatch, splits))


def split_of_flag(column: str) -> Split | None:
    """Return which split a column of true and false marks, by its name; None if it is not such a name."""
    name = _separate_words(column).strip().lower()
    split_name = _FLAG_PREFIX.sub("", name, count=1)
    has_prefix = split_name != name
    if split_name in _UNCLEAR_FLAGS or (not has_prefix and split_name in _UNCLEAR_WITHOUT_PREFIX):
        return None
    return split_of(split_name)


@lru_cache(maxsize=1024)
def truth_of(value: str) -> bool | None:
    """Return whether a value in a column of true and false is true; None if it is neither."""
    value = value.strip().lower()
    return True if value in _TRUE else False if value in _FALSE else None


def split_of_cell(column: str, value: str) -> Split | None:
    """Return which split a row belongs to by its value in a column; None if the value states none."""
    flag, is_marked = split_of_flag(column), truth_of(value)
    if flag is None or is_marked is None:
        return split_of_value(value)
    return "train" if is_marked is (flag == "train") else "held out"


def _separate_words(value: str) -> str:
    """Return a value in which words that begin with a capital letter are separated by blanks."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", value)


def _words(value: str) -> list[str]:
    """Return the words of a value without numbers at their ends."""
    words = re.split(r"[\W_]+", _separate_words(value))
    return [word.rstrip("0123456789") for word in words]


def _split_of_word(word: str) -> Split | None:
    return split_of(word) or _WORDS.get(word.lower())


def splits_in(name: str) -> set[str]:
    """Return which splits the words of a name stand for, as in `birds_train`."""
    return {split for word in re.split(r"[_\-. ]+", name) if (split := split_of(word)) is not None}
