"""Which Parquet files of a folder have audio in them, in the form that Hugging Face `datasets` writes.

Splits and configurations are listed by the card of the dataset, or are in the names of the files:
`data/train-00000-of-00004.parquet`, `en/test/0000.parquet`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.audio.file_types import HEADER_BYTES, FileKind, ending, is_hidden, kind_by_content
from pipeline.audio.parquet_column import audio_column
from pipeline.audio.parquet_rows import read_row
from pipeline.data.clips import shown_list
from pipeline.data.published.dataset_card import CARD, read_card_configs
from pipeline.data.sources.audio_folders import is_output
from pipeline.data.sources.file_finder import file_status
from pipeline.data.sources.split_names import split_of, splits_in
from pipeline.io.errors import UserError
from pipeline.io.folder_tree import FileStatus, FolderTree, join
from pipeline.io.row_location import RowLocation
from pipeline.io.storage import pyarrow_source, to_path
from pipeline.io.text import plural

# Levels of folders that are searched, as in `data/default/train/0000.parquet`; files and rows that are looked
# at to find out whether there is audio.
_MAX_DEPTH, _MAX_READ, _MAX_ROWS = 3, 5, 8
_SHARD = re.compile(r"[-_.]\d+[-_]of[-_]\d+.*")


class AudioFile(NamedTuple):
    """A Parquet file with audio in it."""

    name: str
    """Path below the data folder, with which the ids of its clips begin."""
    path: Path
    status: FileStatus


@dataclass
class ParquetFiles:
    """The Parquet files of a dataset that are read."""

    files: list[AudioFile]
    warnings: list[str] = field(default_factory=list)


class _Named(NamedTuple):
    """What the name of a file, or the card of its dataset, states."""

    name: str
    split: str
    """Name of the split, such as `validation`; empty if there is none."""
    kind: str
    """`train`, `held out`, or empty."""
    config: str
    """Folders between the root and the split."""


def find_parquet_audio(tree: FolderTree, data: Path, flag: str, all_splits: bool) -> ParquetFiles | None:
    """Find the Parquet files with audio in a folder; None if there are none.

    Of the splits, the training split is read, or the only one; with `all_splits` all of them.

    Raises:
        UserError: several configurations, or no training split next to several others.
        OSError: a folder, a file or an object store cannot be read.
    """
    names = list(_parquet_files(tree, "", _MAX_DEPTH))
    if not any(has_audio(to_path(tree.path(name))) for name in names[:_MAX_READ]):
        return None
    found = ParquetFiles([])
    files = _files_of_card(tree, names, f"{flag} {data}", flag, found.warnings)
    if not files:  # without a card, or one that has nothing to do with these files
        files = [_describe(name) for name in names]
    if not all_splits:
        files = _training_files(files, f"{flag} {data}", found.warnings)
    _check_config(tree, files, f"{flag} {data}", flag)
    found.files = [
        AudioFile(file.name, to_path(tree.path(file.name)), tree.status(file.name)) for file in files
    ]
    return found


def one_parquet_file(path: Path) -> ParquetFiles:
    """Return a single file, of any split."""
    return ParquetFiles([AudioFile(path.name, path, file_status(str(path)))])


def has_audio(path: Path) -> bool:
    """Return whether a Parquet file has a column of audio files; False for a file that is no Parquet file.

    Raises:
        OSError: the file or the object store cannot be read.
    """
    try:
        with pq.ParquetFile(pyarrow_source(path, partial=True)) as file:
            column, num_rows = audio_column(file.schema_arrow), file.metadata.num_rows
    except pa.ArrowInvalid:
        return False
    return column is not None and (column.is_declared or _looks_like_audio(path, num_rows))


def _looks_like_audio(path: Path, num_rows: int) -> bool:
    """Return whether the first bytes of the first readable file in the column are those of a recording."""
    for row in range(min(num_rows, _MAX_ROWS)):
        with suppress(ValueError):  # NULL or damaged
            header = read_row(RowLocation(str(path), row))[:HEADER_BYTES]
            return kind_by_content("x.bin", header) is not FileKind.UNKNOWN
    return False


def _parquet_files(tree: FolderTree, folder: str, depth: int) -> Iterator[str]:
    listing = tree.list(folder)
    if is_output(listing):
        return
    yield from (
        join(folder, name) for name in listing.files if ending(name) == "parquet" and not is_hidden(name)
    )
    for name in listing.folders + listing.linked_folders if depth else []:
        if not is_hidden(name):
            yield from _parquet_files(tree, join(folder, name), depth - 1)


def _files_of_card(
    tree: FolderTree, names: list[str], data: str, flag: str, warnings: list[str]
) -> list[_Named]:
    """Return the files of the default configuration in the card of the dataset; none without such files.

    Raises:
        UserError: several configurations, none of which is the default.
    """
    splits = {
        config: {name: split for name in names if (split := config.split_of(name)) is not None}
        for config in read_card_configs(tree)
    }
    splits = {config: files for config, files in splits.items() if files}
    default = next((config for config in splits if config.is_default), None)
    others = [config.name for config in splits if config is not default]
    if splits and default is None:
        if len(others) == 1:
            (default,), others = splits, []
        else:
            example = next(iter(next(iter(splits.values())))).rpartition("/")[0]
            raise UserError(
                f"{data}: {CARD} lists {plural(len(others), 'configuration')} ({shown_list(others)}), none "
                f"of them as the default: pass the folder of one, such as {flag} {tree.path(example)}"
            )
    if default is None:
        return []
    if others:
        warnings.append(
            f"reading configuration {shown_list([default.name])}, the default in {CARD}, not "
            f"{shown_list(others)}; to read another, pass its folder"
        )
    return [
        _Named(name, split, _kind(split), "") if split else _describe(name)._replace(config="")
        for name, split in splits[default].items()
    ]


def _kind(split: str) -> str:
    kinds = splits_in(split)
    return next(iter(kinds)) if len(kinds) == 1 else split_of(split) or ""


def _describe(name: str) -> _Named:
    *folders, file = name.split("/")
    stem = _SHARD.sub("", file.rpartition(".")[0])
    named = [folder for folder in folders if split_of(folder.removeprefix("partial-")) is not None]
    if not named and folders and stem.isdecimal() and len(splits_in(folders[-1])) == 1:
        named = folders[-1:]  # such as `train.360` in `clean/train.360/0000.parquet`
    config = "/".join(folder for folder in folders if folder not in named and folder.lower() != "data")
    split = stem if len(splits_in(stem)) == 1 else named[-1].removeprefix("partial-") if named else ""
    return _Named(name, split, _kind(split), config)


def _training_files(files: list[_Named], data: str, warnings: list[str]) -> list[_Named]:
    for kind in ("train", ""):
        chosen = [file for file in files if file.kind == kind]
        if chosen:
            others = [file for file in files if file.kind != kind]
            splits = sorted({file.split or "files of no split" for file in others})
            if others:
                count = plural(len(others), "Parquet file")
                warnings.append(f"ignoring {count} of other splits ({shown_list(splits)})")
            return chosen
    splits = sorted({file.split for file in files})
    if len(splits) > 1:
        raise UserError(
            f"{data}: no training split next to {shown_list(splits)}; to read one of them, pass its file or "
            f"a folder that has only its files, such as {files[0].name}"
        )
    return files


def _check_config(tree: FolderTree, files: list[_Named], data: str, flag: str) -> None:
    configs = sorted({file.config for file in files})
    if len(configs) <= 1:
        return
    last = next(file for file in files if file.config == configs[-1])
    folders = last.name.split("/")[:-1]
    end = max((folders.index(part) + 1 for part in last.config.split("/") if part), default=0)
    shown_names = shown_list(name or "." for name in configs)
    raise UserError(
        f"{data}: has {plural(len(configs), 'configuration')} ({shown_names}): "
        f"pass the folder of one, such as {flag} {tree.path('/'.join(folders[:end]))}"
    )
