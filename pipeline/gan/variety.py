"""Check of the training clips before a GAN is trained: can it learn anything from each class?

Classes of silence, of copies of one clip, and classes with the same clips as another one train without any
error, into a generator of silence or of copies, with metrics that mean nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from pipeline.data.duplicates import SILENCE
from pipeline.io.text import plural

# With fewer distinct clips, a generator can only reproduce them.
MIN_DISTINCT_CLIPS = 5
# Names in a warning.
MAX_NAMES = 5


def variety_warnings(clips: pd.DataFrame) -> list[str]:
    """Return a warning for each kind of problem, with the names of the classes.

    Args:
        clips: `label` and `content` (digest of the spectrogram) of each original training clip.
    """
    silent, few = [], []
    for label, content in clips.groupby("label", sort=True)["content"]:
        num_silent = int((content == SILENCE).sum())
        distinct = content[content != SILENCE].nunique()
        if num_silent:
            silent.append(f"'{label}' ({num_silent} of {len(content)})")
        if distinct < MIN_DISTINCT_CLIPS and num_silent < len(content):
            few.append(f"'{label}' ({distinct} in {len(content)} clips)")
    warnings = []
    if silent:
        warnings.append(
            f"silent training clips in {_classes(silent)}: the GAN learns to generate silence; "
            "correct or remove the recordings"
        )
    if few:
        warnings.append(
            f"fewer than {MIN_DISTINCT_CLIPS} distinct training clips in {_classes(few)}: the GAN can only "
            "reproduce them; add recordings, or remove the class"
        )
    if pairs := _pairs_with_equal_clips(clips):
        warnings.append(
            f"same training clips in different classes: {_names(pairs)}: the GAN cannot learn their "
            "difference; correct the labels"
        )
    return warnings


def _pairs_with_equal_clips(clips: pd.DataFrame) -> list[str]:
    """Return the pairs of classes with equal clips, those with the largest number first."""
    distinct = clips.loc[clips["content"] != SILENCE, ["label", "content"]].drop_duplicates()
    shared = distinct[distinct["content"].duplicated(keep=False)]
    counts: Counter[tuple[str, str]] = Counter()
    for _, labels in shared.groupby("content")["label"]:
        first, *others = sorted(labels)
        counts.update((first, other) for other in others)
    return [
        f"'{first}' and '{second}' ({plural(count, 'clip')})"
        for (first, second), count in counts.most_common()
    ]


def _classes(names: Sequence[str]) -> str:
    return f"{plural(len(names), 'class')}, {_names(names)}"


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more
