"""Splits of the files of a dataset, as their names or the card of the dataset state, and which are read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pipeline.data.clips import shown_list
from pipeline.data.published.dataset_card import CardConfig
from pipeline.data.sources.split_names import split_of, splits_in
from pipeline.io.errors import UserError
from pipeline.io.text import plural


class NamedFile(NamedTuple):
    """A file of a dataset, and what its name or the card of the dataset states."""

    name: str
    split: str
    """Name of the split, such as `validation`; empty if there is none."""
    kind: str
    """`train`, `held out`, or empty."""
    config: str
    """Folders between the root and the split."""


def files_of(config: CardConfig, names: Iterable[str]) -> list[NamedFile]:
    """Return those files that belong to a configuration of a dataset card."""
    splits = ((name, config.split_of(name)) for name in names)
    return [NamedFile(name, split, split_kind(split), "") for name, split in splits if split is not None]


def split_kind(split: str) -> str:
    """Return `train` or `held out` for the name of a split; empty if it is neither."""
    kinds = splits_in(split)
    return next(iter(kinds)) if len(kinds) == 1 else split_of(split) or ""


def training_files(files: Sequence[NamedFile], data: str, noun: str, warnings: list[str]) -> list[NamedFile]:
    """Return the files of the training split; else those of no split, else those of the only split.

    Args:
        files: files of all splits.
        data: flag and folder, for messages.
        noun: what the files are, for messages.
        warnings: gets a warning about files of other splits.

    Raises:
        UserError: there are several splits, none of which is the training split.
    """
    for kind in ("train", ""):
        chosen = [file for file in files if file.kind == kind]
        if chosen:
            others = [file for file in files if file.kind != kind]
            splits = sorted({file.split or "files of no split" for file in others})
            if others:
                count = plural(len(others), noun)
                warnings.append(f"ignoring {count} of other splits ({shown_list(splits)})")
            return chosen
    splits = sorted({file.split for file in files})
    if len(splits) > 1:
        raise UserError(
            f"{data}: no training split next to {shown_list(splits)}; to read one of them, pass its file or "
            f"a folder that has only its files, such as {files[0].name}"
        )
    return list(files)
