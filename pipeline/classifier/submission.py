"""`submission.csv`: ids and labels, or the columns, ids and row order of a sample submission."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from pipeline.io.errors import UserError


def read_sample(path: Path) -> pd.DataFrame:
    """Read a sample submission, all columns as text.

    Raises:
        UserError: no such file, or not a CSV with at least two columns.
    """
    if not path.is_file():
        raise UserError(f"--sample-submission {path}: no such file")
    try:
        sample = pd.read_csv(io.BytesIO(path.read_bytes()), dtype=str, keep_default_na=False)
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"--sample-submission {path}: not a CSV ({error})") from None
    if len(sample.columns) < 2:
        raise UserError(
            f"--sample-submission {path}: expected at least two columns (id, label), "
            f"got {len(sample.columns)}"
        )
    return sample


def submission(table: pd.DataFrame, class_names: Sequence[str], sample: pd.DataFrame | None) -> pd.DataFrame:
    """Return the submission.

    Args:
        table: predictions with the columns `id`, `label` and `p:<class>` for each class.
        class_names: classes of the model.
        sample: sample submission to follow; None gives `id` and `label`, sorted by id. Its first column
            contains ids: paths below the audio folder, or file names with or without suffix. The second is
            for labels; or, if all further columns are named like classes, they are for probabilities.

    Raises:
        UserError: an id without a file or with several, or a column that is not a class.
    """
    if sample is None:
        return table[["id", "label"]].sort_values("id", ignore_index=True)
    id_column, *columns = sample.columns
    positions = match_ids(table["id"].tolist(), sample[id_column].tolist())
    rows = table.iloc[positions].reset_index(drop=True)
    result = pd.DataFrame({id_column: sample[id_column]})
    if set(columns) <= set(class_names):
        return result.assign(**{name: rows[f"p:{name}"] for name in columns})
    if len(columns) > 1:
        unknown = sorted(set(columns) - set(class_names))
        raise UserError(
            f"--sample-submission: column '{unknown[0]}' is not a model class; "
            f"available: {', '.join(class_names)}"
        )
    return result.assign(**{columns[0]: rows["label"]})


def match_ids(available: list[str], requested: list[str]) -> list[int]:
    """Return the position in `available` of each requested id.

    Raises:
        UserError: a requested id matches no available id, or several.
    """
    # An exact path is unambiguous, even if other files have the same name.
    exact = {path: position for position, path in enumerate(available)}
    by_name = _positions_by_name(available)
    positions = []
    for name in requested:
        matches = [exact[name]] if name in exact else by_name.get(name, [])
        if len(matches) != 1:
            examples = " and ".join(available[position] for position in matches[:2])
            problem = f"ambiguous ({len(matches)} matches, e.g. {examples})" if matches else "no match"
            raise UserError(
                f"--sample-submission: id '{name}': {problem}; ids are paths below --audio, or file names"
            )
        positions.append(matches[0])
    return positions


def _positions_by_name(paths: list[str]) -> dict[str, list[int]]:
    """Return the positions of each path under all names that refer to it, without folder or suffix too."""
    positions: dict[str, list[int]] = {}
    for position, text in enumerate(paths):
        path = PurePosixPath(text)
        for name in {text, path.name, path.stem, str(path.with_suffix(""))}:
            positions.setdefault(name, []).append(position)
    return positions
