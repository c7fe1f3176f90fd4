"""Clips whose audio lies inside Parquet files: listed with their labels, without reading the audio."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from pipeline.data.annotations.settings import LabelConfig
from pipeline.data.clips import shown_list, to_table
from pipeline.data.published.dataset_card import no_files_error
from pipeline.data.published.parquet_audio import (
    AudioFile,
    ParquetFiles,
    find_parquet_audio,
    has_audio,
    one_parquet_file,
)
from pipeline.data.published.parquet_records import FileRows, read_rows
from pipeline.data.published.parquet_splits import SplitCounts, SplitDecision
from pipeline.data.sources.split_values import shown_split
from pipeline.io.concurrent import map_concurrently
from pipeline.io.console import logger
from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.folder_tree import FolderTree, open_tree
from pipeline.io.text import plural

# Files whose rows are read concurrently, and files whose rows are in memory.
_THREADS, _AHEAD = 8, 16


@dataclass
class ParquetClips:
    """Clips inside Parquet files, and warnings."""

    clips: pd.DataFrame
    warnings: list[str]


def read_parquet_folder(
    data: Path,
    flag: str,
    labels: LabelConfig | None,
    tree: FolderTree | None = None,
    config: str | None = None,
) -> ParquetClips | None:
    """Read the clips of a dataset of Parquet files in a folder; None if it has none with audio.

    Args:
        data: the folder.
        flag: command-line flag that names it.
        labels: where the classes are, of the training split; None: clips of all splits, without labels.
        tree: tree of the folder, if it has been listed.
        config: configuration of the dataset card; None: the default.

    Raises:
        UserError: several configurations, none of the name, no column of classes, or an invalid value.
    """
    with report_os_errors("reading", f"{flag} {data}"):
        tree = open_tree(data) if tree is None else tree
        found = find_parquet_audio(tree, data, flag, labels is None, config)
    if found is None and config is not None:
        raise no_files_error(config, f"{flag} {data}")
    return None if found is None else _read(found, f"{flag} {data}", flag, labels)


def read_parquet_file(path: Path, flag: str, labels: LabelConfig | None) -> ParquetClips | None:
    """Read the clips of one Parquet file, of any split; None if it has no audio. As `read_parquet_folder`."""
    with report_os_errors("reading", f"{flag} {path}"):
        found = one_parquet_file(path) if has_audio(path) else None
    return None if found is None else _read(found, f"{flag} {path}", flag, labels)


def _read(found: ParquetFiles, data: str, flag: str, labels: LabelConfig | None) -> ParquetClips:
    if labels is not None:
        _check_settings(data, labels)
    read = _FolderRows()
    clips = to_table(read.records(found.files, flag, labels))
    warnings = list(found.warnings)
    splits = read.counts.decide(data, is_complete=True)
    if read.errors and splits is None:
        raise read.errors[0]
    if splits is not None:
        warnings += splits.warnings
        if not read.agrees_with(splits):
            read = _FolderRows(splits)
            clips = to_table(read.records(found.files, flag, labels))
    unused, used, held_out = read.unused, read.used, read.held_out
    if unused:
        count = plural(len(unused), "Parquet file")
        warnings.append(f"ignoring {count} without a column of audio files ({shown_list(unused, 3)})")
    if held_out:
        counts = ", ".join(f"{shown_split(split)}: {count}" for split, count in sorted(held_out.items()))
        if clips.empty:
            raise UserError(
                f"{data}: no row belongs to the training split ({counts}); pass other files, or "
                "rename the column of the splits"
            )
        warnings.append(f"ignoring {plural(held_out.total(), 'row')} of other splits ({counts})")
    if clips.empty:
        raise UserError(f"{data}: its Parquet files have a column of audio files, but no rows")
    files = plural(len(used), "Parquet file")
    count = f"{len(clips):,} {plural(len(clips), 'clip').partition(' ')[2]}"
    logger.info("data: audio in %s (e.g. %s; %s; %s)", files, found.files[0].name, used[0], count)
    return ParquetClips(clips, warnings)


@dataclass
class _FolderRows:
    """Reads the rows of all files, and notes what is in them."""

    splits: SplitDecision | None = None
    """As for `read_rows`."""
    counts: SplitCounts = field(default_factory=SplitCounts)
    errors: list[UserError] = field(default_factory=list)
    """Why not all rows of a file were read, if these may be held out."""
    held_out: Counter[str] = field(default_factory=Counter)
    unused: list[str] = field(default_factory=list)
    """Files without audio."""
    used: list[str] = field(default_factory=list)
    """Columns of the others."""
    _decided: list[tuple[SplitCounts, SplitDecision | None]] = field(default_factory=list)
    """Values of each file, and which rows were left out."""
    _classes: tuple[str, ...] | None = None
    """Columns of one class each in the first file."""

    def records(self, files: Sequence[AudioFile], flag: str, labels: LabelConfig | None) -> Iterator[tuple]:
        """Yield the rows of the manifest."""

        def read(file: AudioFile) -> FileRows:
            return read_rows(file, flag, labels, self.splits)

        for file, rows in zip(files, map_concurrently(read, files, _THREADS, _AHEAD), strict=True):
            (self.used if rows.columns else self.unused).append(rows.columns or file.name)
            self.held_out.update(rows.held_out)
            if rows.columns:
                self._check_classes(rows.classes, f"{flag} {file.path}")
            self.errors += [] if rows.error is None else [rows.error]
            self.counts.merge(rows.split_counts)
            self._decided.append((rows.split_counts, rows.splits))
            yield from rows.records

    def _check_classes(self, classes: tuple[str, ...], name: str) -> None:
        """Raise `UserError` if a file has other columns of one class each than the files before."""
        if self._classes is None:
            self._classes = classes
        if classes != self._classes:
            first, here = (shown_list(names) or "none" for names in (self._classes, classes))
            raise UserError(
                f"{name}: columns of 0 and 1 for classes are {here}, in another file {first}: name those of "
                "all files, as in --label-column dog,rain"
            )

    def agrees_with(self, splits: SplitDecision) -> bool:
        """Return whether each file has left out the rows that it should: a file may lack training rows."""
        if self.errors:
            return False
        for counts, decided in self._decided:
            held_out = splits.held_out & counts.values_of(splits.column)
            if decided is None and held_out:
                return False
            if decided is not None and (decided.column, decided.held_out) != (splits.column, held_out):
                return False
        return True


def _check_settings(data: str, labels: LabelConfig) -> None:
    for flag, value in (("annotations", labels.annotations), ("birdnet-folders", labels.birdnet_folders)):
        if value:
            raise UserError(
                f"{data}: the audio is inside Parquet files, but --{flag} needs a folder of audio files: "
                f"leave out --{flag} to read the classes from a column of the Parquet files"
            )
