"""Names of data splits, as people give them to folders and to values in tables."""

from __future__ import annotations

import re
from typing import Literal

_TRAIN = r"train|training"
_HELD_OUT = r"test|testing|val|valid|validate|validation|eval|evaluation|dev|holdout|held[_\- ]?out"
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


def split_of(name: str) -> Literal["train", "held out"] | None:
    """Return which split a name stands for; None if it is not the name of a split."""
    match = _NAME.fullmatch(name.strip())
    if match is None:
        return None
    return "train" if match["train"] else "held out"


def splits_in(name: str) -> set[str]:
    """Return which splits the words of a name stand for, as in `birds_train`."""
    return {split for word in re.split(r"[_\-. ]+", name) if (split := split_of(word)) is not None}
