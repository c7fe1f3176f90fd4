"""Which Parquet files of a folder have audio in them, in the form that Hugging Face `datasets` writes.

Splits and configurations are listed by the card of the dataset, or are in the names of the files:
`data/train-00000-of-00004.parquet`, `en/test/0000.parquet`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.audio.file_types import HEADER_BYTES, FileKind, ending, is_hidden, kind_by_content
from pipeline.audio.parquet_column import audio_column
from pipeline.audio.parquet_rows import read_row
from pipeline.data.clips import shown, shown_list
from pipeline.data.published.dataset_card import CardConfig, check_config, choose_config, read_card_configs
from pipeline.data.published.named_files import (
    NamedFile,
    check_splits,
    files_of,
    split_kind,
    training_files,
    unlisted_files,
)
from pipeline.data.sources.audio_folders import is_output
from pipeline.data.sources.file_finder import file_status
from pipeline.data.sources.split_names import split_of, splits_in
from pipeline.io.errors import UserError
from pipeline.io.folder_tree import FileStatus, FolderTree, join
from pipeline.io.row_location import RowLocation
from pipeline.io.storage import pyarrow_source, to_path
from pipeline.io.table_files import columns_without_content
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


def find_parquet_audio(
    tree: FolderTree, data: Path, flag: str, all_splits: bool, config: str | None = None
) -> ParquetFiles | None:
    """Find the Parquet files with audio in a folder; None if there are none.

    Of the splits, the training split is read, or the only one; with `all_splits` all of them. `config` is the
    name of a configuration of the dataset card.

    Raises:
        UserError: several configurations, audio files of which only the paths are there, or as
            `check_splits` and `training_files`.
        OSError: a folder, a file or an object store cannot be read.
    """
    names = list(_parquet_files(tree, "", _MAX_DEPTH))
    first = [to_path(tree.path(name)) for name in names[:_MAX_READ]]
    if not any(map(has_audio, first)):
        _check_content(first, data, flag)
        return None
    found = ParquetFiles([])
    configs = read_card_configs(tree)
    check_config(configs, config, f"{flag} {data}")
    files = _files_of_card(configs, names, config, f"{flag} {data}", all_splits, found.warnings)
    unlisted = unlisted_files(configs, names)
    if not files:  # without a card, or one that has nothing to do with these files
        files, unlisted = [_describe(name) for name in names], iter(())
    if not all_splits:
        files = training_files(files, f"{flag} {data}", "Parquet file", found.warnings, unlisted)
    _check_config(tree, files, f"{flag} {data}", flag)
    found.files = [
        AudioFile(file.name, to_path(tree.path(file.name)), tree.status(file.name)) for file in files
    ]
    return found


def _check_content(files: Sequence[Path], data: Path, flag: str) -> None:
    """Raise `UserError` if one of some Parquet files has audio files of which only the paths are there."""
    example = next(filter(_has_paths_only, files), None)
    if example is not None:
        raise UserError(
            f"{flag} {data}: Parquet files have the paths of audio files, but not their bytes, e.g. "
            f"{shown(example.name)}: to read the files at these paths, pass {flag} {example}"
        )


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
            has_content = column is not None and column.name not in columns_without_content(file)
    except pa.ArrowInvalid:
        return False
    return column is not None and has_content and (column.is_declared or _looks_like_audio(path, num_rows))


def _has_paths_only(path: Path) -> bool:
    """Return whether a Parquet file has a column of audio files without their content."""
    try:
        with pq.ParquetFile(pyarrow_source(path, partial=True)) as file:
            column = audio_column(file.schema_arrow)
            return column is not None and column.name in columns_without_content(file)
    except pa.ArrowInvalid:
        return False


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
    configs: Sequence[CardConfig],
    names: list[str],
    config: str | None,
    data: str,
    all_splits: bool,
    warnings: list[str],
) -> list[NamedFile]:
    """Return the files of a configuration in the card of the dataset; none without such files.

    Raises:
        UserError: as `choose_config`, and without `all_splits` as `check_splits`.
    """
    splits = {config: files_of(config, names) for config in configs}
    chosen = choose_config([config for config in configs if splits[config]], config, data, warnings)
    if chosen is None:
        return []
    if not all_splits:
        check_splits(chosen, splits[chosen], data, "Parquet file", warnings)
    return [file if file.split else _describe(file.name)._replace(config="") for file in splits[chosen]]


def _describe(name: str) -> NamedFile:
    *folders, file = name.split("/")
    stem = _SHARD.sub("", file.rpartition(".")[0])
    named = [folder for folder in folders if split_of(folder.removeprefix("partial-")) is not None]
    if not named and folders and stem.isdecimal() and len(splits_in(folders[-1])) == 1:
        named = folders[-1:]  # such as `train.360` in `clean/train.360/0000.parquet`
    config = "/".join(folder for folder in folders if folder not in named and folder.lower() != "data")
    split = stem if len(splits_in(stem)) == 1 else named[-1].removeprefix("partial-") if named else ""
    return NamedFile(name, split, split_kind(split), config)


def _check_config(tree: FolderTree, files: list[NamedFile], data: str, flag: str) -> None:
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
