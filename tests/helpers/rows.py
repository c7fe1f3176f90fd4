"""Rows of a dataset without files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from pipeline.data.clips import NO_FOLD
from pipeline.data.rows import Rows


def make_rows(
    recordings: Mapping[str, Sequence[int]], folds: Mapping[str, Sequence[int]] | None = None
) -> Rows:
    """Build rows of original clips `<class>/<recording>-<clip>`.

    Args:
        recordings: number of clips of each recording, by class.
        folds: fold of each recording, by class; by default none.
    """
    records = []
    for label, counts in recordings.items():
        for recording, clips in enumerate(counts):
            fold = folds[label][recording] if folds else NO_FOLD
            for clip in range(clips):
                group = f"{label}-{recording}"
                clip_id = f"{label}/{recording}-{clip}.wav"
                records.append((clip_id, clip_id, label, fold, group, 0, 0.0, "unchanged", group))
    columns = ["clip_id", "path", "label", "fold", "group", "copy", "strength", "augmentation", "split_group"]
    table = pd.DataFrame(records, columns=columns)
    table["content"] = range(1, len(table) + 1)
    return Rows(tuple(sorted(recordings)), table)
