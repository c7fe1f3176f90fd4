"""Records of splits: which clips of several datasets they hold."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd

from pipeline.data.split import Split
from pipeline.data.split_record import shared_rows, split_record, trained_clips


def clips(ids: list[str], first_content: int) -> pd.DataFrame:
    """Return clips of recordings of their own, each with a copy."""
    content = np.arange(first_content, first_content + len(ids), dtype=np.uint64)
    table = pd.DataFrame({"clip_id": np.repeat(ids, 2), "label": "dog", "content": np.repeat(content, 2)})
    return table.assign(group=[f"{name} of {first_content}" for name in table["clip_id"]])


def test_clips_of_other_datasets_with_the_same_ids_are_recorded() -> None:
    own, other = clips(["1.wav", "2.wav"], 10), clips(["1.wav", "3.wav"], 20)
    none = np.array([], dtype=np.int64)
    split = Split(np.arange(4), none, none)
    record = split_record(SimpleNamespace(table=own), split, [other])  # type: ignore[arg-type]
    trained = trained_clips(record)
    assert trained[["clip_id", "content"]].values.tolist() == [
        ["1.wav", 10], ["2.wav", 11], ["1.wav", 20], ["3.wav", 21]
    ]  # fmt: skip
    renamed = clips(["5.wav", "6.wav"], 20)
    assert shared_rows(renamed, trained).all()
    # A run that starts from the weights of this one has all of them in its record.
    record = split_record(SimpleNamespace(table=clips(["9.wav"], 30)), Split(none, none, none), [trained])  # type: ignore[arg-type]
    assert len(record) == 4
    assert shared_rows(renamed, trained_clips(record)).all()
