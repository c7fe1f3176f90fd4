"""Record of a split: which clips a run was trained on, for later commands to compare others with.

It outlives the shards, which may be moved, extracted again or deleted after training. Clips are the same if
they have the same id, the same recording or the same audio.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.data.duplicates import SILENCE
from pipeline.data.rows import LabeledRows
from pipeline.data.split import Split
from pipeline.io.errors import UserError
from pipeline.io.files import write_atomically

SPLIT_NAME = "split.parquet"
# Copy of the record of a generator's run, in a dataset that it generated.
GENERATOR_SPLIT_NAME = "generator_split.parquet"
# Columns by which clips are compared, and values that mean nothing.
IDENTITIES: dict[str, Any] = {"clip_id": None, "group": None, "content": SILENCE}


def split_record(dataset: LabeledRows, split: Split, extra: Sequence[pd.DataFrame] = ()) -> pd.DataFrame:
    """Return the clips of a split: the columns `IDENTITIES`, `label` and `split`.

    Args:
        dataset: the dataset that was split.
        split: `train`, `validation` or `held-out` in the result.
        extra: tables of additional datasets, used for training.
    """
    columns = [*IDENTITIES, "label"]
    parts = {"train": split.train, "validation": split.val, "held-out": split.held_out}
    tables = [dataset.table.iloc[rows][columns].assign(split=name) for name, rows in parts.items()]
    tables += [table[columns].assign(split="train") for table in extra]
    # A row for each clip rather than for each copy of it. Datasets, and the records of runs that were trained
    # on several, may have other clips of the same id.
    return pd.concat(tables, ignore_index=True).drop_duplicates([*IDENTITIES, "split"], ignore_index=True)


def write_split_record(path: Path, record: pd.DataFrame) -> None:
    """Write a record atomically."""
    buffer = io.BytesIO()
    record.to_parquet(buffer, compression="zstd")
    write_atomically(path, lambda file: file.write(buffer.getvalue()))


def read_split_record(path: Path) -> pd.DataFrame | None:
    """Read a record; None if there is none.

    Raises:
        UserError: a damaged file.
    """
    try:
        return pd.read_parquet(io.BytesIO(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (pa.ArrowException, ValueError, OSError) as error:
        raise UserError(
            f"{path} is damaged ({str(error).splitlines()[0]}): restore it, or delete it"
        ) from None


def trained_clips(record: pd.DataFrame) -> pd.DataFrame:
    """Return the clips of a record that were trained on."""
    return record[record["split"] == "train"]


def shared_rows(table: pd.DataFrame, clips: pd.DataFrame) -> np.ndarray:
    """Return the mask of the rows of a table that are among `clips`, bool `[shape=(N,)]`.

    Rows match if they have the id, the recording or the audio of a clip.
    """
    mask = np.zeros(len(table), bool)
    for column, empty in IDENTITIES.items():
        values = table[column]
        mask |= (values.isin(set(clips[column])) & (values != empty)).to_numpy()
    return mask


def leakage_error(subject: str, evaluated: pd.DataFrame, leaking: np.ndarray) -> UserError:
    """Return the error for a run that was trained on clips that another one evaluates.

    Args:
        subject: the run, as the subject of the sentence.
        evaluated: validation and held-out clips of the other run.
        leaking: mask of those that the run was trained on, bool `[shape=(N,)]`.
    """
    example = evaluated["clip_id"].to_numpy()[leaking][0]
    return UserError(
        f"{subject} was trained on {int(leaking.sum())} of the {len(leaking)} clips that are validated or "
        f"held out here, such as '{example}': leakage; give both runs the same --fold, --num-folds, "
        "--val-fraction and --seed, or here --val-fraction 0"
    )
