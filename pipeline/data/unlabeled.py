"""Clips without labels, to be classified: a folder, a file, a row of a Parquet file, a table."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pandas as pd

from pipeline.audio.file_types import ending, is_recording
from pipeline.data.annotations.event_table import unused_times_warning
from pipeline.data.clips import clip_record, shown, sort_by_id, to_table
from pipeline.data.manifest import OTHER_FORMATS, Manifest, is_file
from pipeline.data.published.card_audio import find_card_audio
from pipeline.data.published.dataset_card import check_no_config
from pipeline.data.published.parquet_clips import read_parquet_file, read_parquet_folder
from pipeline.data.sources.audio_folders import AudioWalk, ClassFolder
from pipeline.data.sources.clip_table import read_path_list, read_unlabeled_table
from pipeline.data.sources.file_finder import file_status
from pipeline.data.sources.unread_files import unread_files_hint
from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.folder_tree import open_tree
from pipeline.io.row_location import parse_row
from pipeline.io.storage import to_path
from pipeline.io.table_files import TEXT_TABLE_EXTENSIONS

_LIST_EXTENSIONS = ("txt", "lst", "list")


def read_unlabeled(audio: Path, config: str | None = None) -> Manifest:
    """Read clips without labels: the recordings below a folder, one file, or those that a table lists.

    Every file that may be a recording is a clip, so that it gets a prediction: also one in an unsupported
    format (`pipeline.audio.file_types.unsupported_reason`), one without ending, and a listed one that does
    not exist. A row of a Parquet file is one file. Tables are a CSV, JSON or Parquet file with a column
    `path` (and `id`), or a text file with one path per line.

    `config` is a configuration of the dataset card of a folder, whose files alone are read. Without it all
    audio files are read; of a folder with Parquet files those of the default configuration.

    Raises:
        UserError: no such path or configuration, no audio file, a folder that cannot be read, or a duplicate
            id.
    """
    name = f"--audio {audio}"
    with report_os_errors("reading", name):
        clips, warnings = _read_unlabeled(audio, config)
    if clips.empty:
        notes = "".join(f"; {warning}" for warning in warnings)
        with report_os_errors("reading", name):
            hint = unread_files_hint(open_tree(audio)) if audio.is_dir() else ""
        notes += f"; {hint}" if hint else ""
        raise UserError(f"{name}: no audio files found (wav, {OTHER_FORMATS}){notes}")
    return Manifest(sort_by_id(clips, name), warnings)


def _read_unlabeled(audio: Path, config: str | None) -> tuple[pd.DataFrame, list[str]]:
    if config is not None and not audio.is_dir():
        check_no_config(config, f"--audio {audio}")
    if (row := parse_row(str(audio))) is not None and is_file(to_path(row.file), "--audio"):
        return _read_row(audio, row.file), []
    if is_file(audio, "--audio"):
        return _read_unlabeled_file(audio)
    if not audio.is_dir():
        raise UserError(f"--audio {audio}: no such folder, audio file, CSV or list of files")
    clips, warnings = _read_folder(audio, config)
    if clips.empty:
        inside = read_parquet_folder(audio, "--audio", None, config=config)
        return (inside.clips, inside.warnings) if inside else (clips, warnings)
    return clips, warnings


def _read_row(audio: Path, file: str) -> pd.DataFrame:
    """Return one row of a Parquet file, with the id that it has among all of its rows."""
    clip_id = PurePosixPath(file).name + str(audio).removeprefix(file)
    return to_table([clip_record(clip_id, str(audio), "", file_status(file))])


def _read_folder(audio: Path, config: str | None) -> tuple[pd.DataFrame, list[str]]:
    """Return all recordings below a folder, or those of a configuration, and warnings.

    Raises:
        UserError: a folder cannot be read, so that predictions would be missing.
    """
    with report_os_errors("reading", f"--audio {audio}"):
        tree = open_tree(audio)
        walk = AudioWalk(tree, keep_unsupported=True)
        clips = to_table(walk.records([ClassFolder("", "")]))
    for name, reason in walk.omitted.unreadable.items():
        raise UserError(
            f"--audio {audio}: cannot read folder {shown(tree.path(name))} ({reason}), so its files would "
            "have no prediction; make it readable, or pass another folder"
        )
    if config is not None:
        chosen = find_card_audio(tree, f"--audio {audio}", config, all_splits=True)
        clips = clips.iloc[:0] if chosen is None else chosen.keep(clips)
    return clips, walk.omitted.warnings()


def _read_unlabeled_file(audio: Path) -> tuple[pd.DataFrame, list[str]]:
    if ending(audio.name) in TEXT_TABLE_EXTENSIONS:
        return _read_table(audio)
    if ending(audio.name) in _LIST_EXTENSIONS:
        return read_path_list(audio)
    if is_recording(audio) or not ending(audio.name):
        return to_table([clip_record(audio.name, str(audio), "", file_status(str(audio)))]), []
    if ending(audio.name) == "parquet":
        inside = read_parquet_file(audio, "--audio", None)
        return _read_table(audio) if inside is None else (inside.clips, inside.warnings)
    raise UserError(f"--audio {audio}: neither an audio file nor a CSV or a list of files (.txt)")


def _read_table(path: Path) -> tuple[pd.DataFrame, list[str]]:
    clips, warnings = read_unlabeled_table(path)
    reason = ": the prediction of a row is that of its whole file; for parts of files write these to files"
    return clips, [*unused_times_warning(path, "--audio", reason), *warnings]
