"""Names of data splits, as people give them to folders and to values in tables."""

from __future__ import annotations

import re
from typing import Literal

_TRAIN = r"train|training"
_HELD_OUT = r"test|testing|val|valid|validate|validation|eval|evaluation|dev|holdout|held[_\- ]?out"
# Words next to it, as in `train_audio`. Others make a class name, as in `train_horn`.
_AFFIX = r"audio|data|set|clips|files|wavs?|sounds?|soundscapes?|recordings?"
_NAME = re.compile(
    rf"(?:(?:{_AFFIX})[_\- ]?)?(?:(?P<train>{_TRAIN})|{_HELD_OUT})(?:[_\- ]?(?:{_AFFIX}))?", re.IGNORECASE
)


def split_of(name: str) -> Literal["train", "held out"] | None:
    """Return which split a name stands for; None if it is not the name of a split."""
    match = _NAME.fullmatch(name.strip())
    if match is None:
        return None
    return "train" if match["train"] else "held out"
