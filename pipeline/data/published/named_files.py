"""Splits of the files of a dataset, as their names or the card of the dataset state, and which are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from pipeline.data.clips import shown, shown_list
from pipeline.data.published.dataset_card import CARD, CardConfig
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
    found = ((name, config.splits_of(name)) for name in names)
    chosen = ((name, _split_among(splits)) for name, splits in found if splits)
    return [NamedFile(name, split, split_kind(split), "") for name, split in chosen]


def _split_among(splits: Sequence[str]) -> str:
    """Return the split of a file that the patterns of several match.

    It is a held-out one: `train: '*.wav'` next to `test: 'test-*.wav'` means all other files.
    """
    return next((split for split in splits if split_kind(split) == "held out"), splits[0])


def unlisted_files(configs: Sequence[CardConfig], names: Iterable[str]) -> Iterator[str]:
    """Yield the files that no configuration of a dataset card lists."""
    return (name for name in names if not any(config.splits_of(name) for config in configs))


def check_splits(
    config: CardConfig, files: Sequence[NamedFile], data: str, noun: str, warnings: list[str]
) -> None:
    """Check that each split that a dataset card lists has files.

    Files of a split whose pattern fits none may be among those of another split; but a held-out split is
    often not downloaded.

    Args:
        config: the configuration.
        files: its files.
        data: flag and folder, for messages.
        noun: what the files are, for messages.
        warnings: gets a warning about each held-out split without files next to a training split.

    Raises:
        UserError: another split has none.
    """
    found = {file.split: file.kind for file in files}
    missing = {listed.split: listed.path for listed in config.files if listed.split not in found}
    for split, path in missing.items():
        text = f"{CARD} lists {shown(path)} for split {shown(split)}, but no {noun} belongs to it"
        if split_kind(split) != "held out" or "train" not in found.values():
            raise UserError(f"{data}: {text}: add its files, or correct or remove the split in {CARD}")
        warnings.append(text)


def split_kind(split: str) -> str:
    """Return `train` or `held out` for the name of a split; empty if it is neither."""
    kinds = splits_in(split)
    return next(iter(kinds)) if len(kinds) == 1 else split_of(split) or ""


def training_files(
    files: Sequence[NamedFile], data: str, noun: str, warnings: list[str], unlisted: Iterable[str] = ()
) -> list[NamedFile]:
    """Return the files of the training split; else those of no split, else those of the only split.

    Args:
        files: files of all splits.
        data: flag and folder, for messages.
        noun: what the files are, for messages.
        warnings: gets a warning about files of other splits.
        unlisted: further files, which the card of the dataset does not list.

    Raises:
        UserError: there are several splits, none of which is the training split, or the only one is held out
            and the training split is not listed.
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
    if files[0].kind == "held out" and (name := next(filter(_is_training, unlisted), None)) is not None:
        raise UserError(
            f"{data}: {CARD} lists only split {shown(splits[0])}, but {shown(name)} is named as a training "
            f"split: add that split to {CARD}, or pass a folder that has only the files to read"
        )
    return list(files)


def _is_training(name: str) -> bool:
    """Return whether the name of a file or of one of its folders is that of a training split."""
    *folders, file = name.split("/")
    return splits_in(file.rpartition(".")[0]) == {"train"} or "train" in map(split_of, folders)
