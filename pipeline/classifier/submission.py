"""`submission.csv`: ids and labels, or whatever columns, ids and order a sample asks for."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from pipeline.io.errors import UserError


def read_sample(path: Path) -> pd.DataFrame:
    """A sample submission, all columns as text.

    Raises:
        UserError: no such file, or not a CSV of two columns or more.
    """
    if not path.is_file():
        raise UserError(f"--sample-submission {path}: no such file")
    try:
        sample = pd.read_csv(io.BytesIO(path.read_bytes()), dtype=str, keep_default_na=False)
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"--sample-submission {path}: not a CSV ({error})") from None
    if len(sample.columns) < 2:
        raise UserError(
            f"--sample-submission {path}: needs two columns, ids and labels, and has {len(sample.columns)}"
        )
    return sample


def submission(table: pd.DataFrame, class_names: Sequence[str], sample: pd.DataFrame | None) -> pd.DataFrame:
    """The answer.

    Args:
        table: predictions with the columns `id`, `label` and `p:<class>` for each class.
        class_names: of the model.
        sample: its first column holds ids: paths below the audio folder, or names with or without their ending. The
            second takes labels; or, where every further column is named like a class, they take probabilities.

    Raises:
        UserError: an id with no file or with several, or columns that can't be filled.
    """
    if sample is None:
        return table[["id", "label"]].sort_values("id", ignore_index=True)
    first, *others = sample.columns
    rows = table.iloc[_places(table["id"].tolist(), sample[first].tolist())].reset_index(drop=True)
    answer = pd.DataFrame({first: sample[first]})
    if set(others) <= set(class_names):
        return answer.assign(**{name: rows[f"p:{name}"] for name in others})
    if len(others) > 1:
        unknown = sorted(set(others) - set(class_names))
        raise UserError(
            f"--sample-submission: column '{unknown[0]}' is no class of the model; they are {', '.join(class_names)}"
        )
    return answer.assign(**{others[0]: rows["label"]})


def _places(have: list[str], wanted: list[str]) -> list[int]:
    """Where each wanted id lies among those there are."""
    places: dict[str, list[int]] = {}
    for place, name in enumerate(have):
        path = PurePosixPath(name)
        for form in {name, path.name, path.stem, str(path.with_suffix(""))}:
            places.setdefault(form, []).append(place)
    # A whole path is never doubtful, whatever else has the same name.
    exact = {name: place for place, name in enumerate(have)}
    found = []
    for name in wanted:
        hits = [exact[name]] if name in exact else places.get(name, [])
        if len(hits) != 1:
            what = (
                "no file has it"
                if not hits
                else f"{len(hits)} files have it, such as {have[hits[0]]} and {have[hits[1]]}"
            )
            raise UserError(
                f"--sample-submission: id '{name}': {what}; ids are paths below --audio, or file names"
            )
        found.append(hits[0])
    return found
