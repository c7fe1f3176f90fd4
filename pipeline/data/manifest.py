"""Manifest: the list of clips that a job processes; labeled ones from folders, a CSV or Parquet files.

`unlabeled.py` reads those without labels.

It is a pandas table with the columns `COLUMNS`, sorted by `clip_id`; paths are absolute. A manifest of
windows has the columns `start` and `end` too, in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
from pydantic import model_validator

from pipeline.audio.feature_defaults import ClipFormat
from pipeline.audio.file_types import ending, is_recording
from pipeline.data.annotations.annotated_folder import Events
from pipeline.data.annotations.read_annotations import read_annotations
from pipeline.data.annotations.recording_windows import cut_recordings
from pipeline.data.class_folders import (
    ClassFolderClips,
    read_class_folders,
    read_list_of_class_folders,
    read_nested_classes,
)
from pipeline.data.class_names import ClassNamesConfig, code_warnings, read_class_names
from pipeline.data.clips import shown_list, sort_by_id, to_table
from pipeline.data.labels import count_classes
from pipeline.data.named_clips import read_named_clips
from pipeline.data.published.card_audio import CardAudio, find_card_audio
from pipeline.data.published.card_settings import CardSettings
from pipeline.data.published.dataset_card import check_no_config
from pipeline.data.published.labeled_data import (
    LabeledData,
    TableConfig,
    read_folder_table,
    read_table,
    unlisted_warning,
    unread_table_warning,
)
from pipeline.data.published.parquet_clips import ParquetClips, read_parquet_file, read_parquet_folder
from pipeline.data.recording_headers import MapBatches, map_batches_here
from pipeline.data.sources.class_warnings import class_warnings
from pipeline.data.sources.name_patterns import PATTERN_HINT, PatternConfig, apply_patterns
from pipeline.data.sources.split_lists import is_path_list
from pipeline.data.sources.unread_files import unread_files_hint
from pipeline.data.windows import WindowConfig
from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.folder_tree import FolderTree, open_tree
from pipeline.io.read_once import remote_files_read_once

# Named by messages in addition to wav.
OTHER_FORMATS = "flac, ogg, mp3, aiff, …"


class ManifestConfig(PatternConfig, TableConfig, ClassNamesConfig, CardSettings):
    """Which clips there are, and what is known about them."""

    @model_validator(mode="after")
    def _check_config(self) -> ManifestConfig:
        if self.annotations is not None and self.data_config is not None:
            raise ValueError(
                f"--data-config {self.data_config}: not with --annotations: leave it out, and pass the "
                "folder of that configuration as --data"
            )
        others = [name for name in ("annotations", "label_column", "birdnet_folders") if getattr(self, name)]
        if self.label_pattern is not None and others:
            flag = others[0].replace("_", "-")
            raise ValueError(f"--label-pattern and --{flag} both give the classes: leave one out")
        return self


@dataclass(frozen=True)
class Manifest:
    """Table of clips, and warnings about the data."""

    clips: pd.DataFrame
    warnings: list[str] = field(default_factory=list)
    multi_label: bool = False
    """Whether labels are texts with any number of classes, as in `labels.py`."""
    events: Events | None = None
    """Events of each clip, by its id, if these are annotated."""
    formats: list[ClipFormat] | None = None
    """Formats of the readable recordings of which the clips are windows."""
    summary: str = ""
    """Numbers of windows, in one line."""
    stated_classes: tuple[str, ...] = ()
    """Classes as the data state them, before these had the names of `--class-names`."""

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, sorted."""
        return sorted(self.class_counts)

    @property
    def class_counts(self) -> dict[str, int]:
        """Number of clips of each class, in the order of their names."""
        labels = {str(label): count for label, count in self.clips["label"].value_counts().items()}
        return count_classes(labels, self.multi_label)


def read_manifest(data: Path, config: ManifestConfig = ManifestConfig()) -> Manifest:
    """Read labeled clips from a CSV with columns `path,label[,fold][,group]`, or from folders `<class>/*`.

    If a folder has a training split `train`, that is read instead. `clip_id` is the path relative to the
    folder (or as written in the CSV), with forward slashes, in composed Unicode form. With annotated events,
    a label has the classes of all events of the file.

    Raises:
        UserError: no such path, no clip, a missing column, a duplicate id, a pattern that does not match, or
            a folder with several interpretations.
    """
    # Columns, times and rows of a table are read one after the other.
    with remote_files_read_once(), report_os_errors("reading", f"--data {data}"):
        is_table = is_file(data, "--data")
        found = _read_labeled_file(data, config) if is_table else _read_labeled_folder(data, config)
    if found.clips.empty:
        notes = "".join(f"; {warning}" for warning in found.warnings)
        if is_table:
            raise UserError(f"--data {data}: has no rows of clips below its header{notes}")
        has_folders = config.annotations is None and config.label_pattern is None
        expected = "<class>/<clip>.wav" if has_folders else "recordings"
        single = ", also of a single class" if has_folders else ""
        if config.window is not None and has_folders:
            notes += "; if annotation files are next to the recordings, add --annotations auto"
        with report_os_errors("reading", f"--data {data}"):
            hint = unread_files_hint(open_tree(data))
        notes += f"; {hint}" if hint else ""
        notes += f"; {PATTERN_HINT}" if has_folders and found.warnings else ""
        raise UserError(
            f"--data {data}: no audio files found; expected {expected} (or {OTHER_FORMATS}){single}{notes}"
        )
    found = _with_class_names(found, config.class_names)
    clips = sort_by_id(apply_patterns(found.clips, config), f"--data {data}")
    manifest = replace(found, clips=clips)
    others = (config.label_pattern, config.label_column, config.annotations, config.birdnet_folders)
    hint = "" if is_table or any(others) else PATTERN_HINT
    warnings = class_warnings(manifest.class_counts, manifest.multi_label, config.label_column, hint)
    return replace(manifest, warnings=found.warnings + warnings)


def _with_class_names(found: Manifest, path: Path | None) -> Manifest:
    """Return a manifest with the names that the table `path` has for its classes.

    Raises:
        UserError: an unusable table.
    """
    classes = tuple(found.class_counts)
    if path is None or not classes:
        return replace(found, stated_classes=classes, warnings=found.warnings + code_warnings(classes))
    names = read_class_names(path, classes, found.multi_label)
    labels = {label: names.label(label) for label in found.clips["label"].unique()}
    events = found.events and {
        clip_id: [event._replace(label=names.label(event.label)) for event in events]
        for clip_id, events in found.events.items()
    }
    return replace(
        found,
        clips=found.clips.assign(label=found.clips["label"].map(labels)),
        events=events,
        stated_classes=classes,
        warnings=found.warnings + names.warnings(path, classes),
    )


def cut_windows(
    manifest: Manifest, config: WindowConfig, seed: int, map_batches: MapBatches = map_batches_here
) -> Manifest:
    """Return the manifest of the windows of all recordings of a manifest.

    `seed` is that of the choice of background windows; `map_batches` is as for `read_headers`.

    Raises:
        UserError: no window has an event, or an object store cannot be reached.
    """
    cut = cut_recordings(manifest.clips, manifest.events, config, seed, map_batches)
    windows = replace(
        manifest,
        clips=cut.clips,
        warnings=manifest.warnings + cut.warnings,
        formats=cut.formats,
        summary=cut.summary,
    )
    if missing := sorted(manifest.class_counts.keys() - windows.class_counts.keys()):
        windows.warnings.append(f"no window has an event of {shown_list(missing)}, left out")
    return windows


def _read_labeled_folder(data: Path, config: ManifestConfig) -> Manifest:
    if not data.is_dir():
        raise UserError(f"--data {data}: no such folder or CSV file")
    if config.annotations is None:
        return _read_folder_data(data, config)
    if config.window is None and not config.multi_label:
        raise UserError(
            f"--annotations {config.annotations} needs --window: events label windows of recordings (or "
            "--multi-label: each file is a clip with the classes of all of its events)"
        )
    is_windowed = config.window is not None
    read = read_annotations(data, config.annotations, config.label_column, is_windowed)
    if config.annotations != "auto" and read.columns:  # of a table
        with report_os_errors("reading", f"--data {data}"):
            listed, held_out = read.clips["path"], read.held_out_files
            read.warnings.extend(unlisted_warning(config.annotations, open_tree(data), listed, held_out))
    if read.clips.empty and (inside := read_parquet_folder(data, "--data", config)) is not None:
        return _of_parquet(inside, config)
    return Manifest(read.clips, read.warnings, multi_label=True, events=read.events)


def is_file(path: Path, flag: str) -> bool:
    """Return whether a path is a file.

    Raises:
        UserError: an object store cannot be reached, or a folder not be read.
    """
    with report_os_errors("reading", f"{flag} {path}"):
        return path.is_file()


def _read_labeled_file(data: Path, config: ManifestConfig) -> Manifest:
    check_no_config(config.data_config, f"--data {data}")
    if config.label_pattern is not None:
        raise UserError(f"--label-pattern: --data {data} is a file; pass the folder of the recordings")
    if ending(data.name) == "parquet" and (inside := read_parquet_file(data, "--data", config)) is not None:
        return _of_parquet(inside, config)
    if is_recording(data):
        raise UserError(f"--data {data}: is an audio file; expected a folder of class folders, or a CSV")
    for flag, value in (("annotations", config.annotations), ("birdnet-folders", config.birdnet_folders)):
        if value:
            raise UserError(f"--data {data}: is a table of clips, but --{flag} needs a folder of recordings")
    if is_path_list(data):
        return _of_folders(read_list_of_class_folders(data, config), config)
    return _of_table(read_table(data, config.subset(TableConfig)))


def _of_folders(read: ClassFolderClips, config: ManifestConfig) -> Manifest:
    return Manifest(read.clips, read.warnings, config.multi_label or config.birdnet_folders)


def _of_table(read: LabeledData) -> Manifest:
    return Manifest(read.clips, read.warnings, multi_label=read.events is not None, events=read.events)


def _of_parquet(read: ParquetClips, config: ManifestConfig) -> Manifest:
    return Manifest(read.clips, read.warnings, config.multi_label)


def _read_folder_data(data: Path, config: ManifestConfig) -> Manifest:
    """Return the clips of audio files in a folder; without these, of those inside its Parquet files."""
    with report_os_errors("reading", f"--data {data}"):
        tree = open_tree(data)
    chosen = find_card_audio(tree, f"--data {data}", config.data_config, all_splits=False)
    if config.label_pattern is not None:
        named = read_named_clips(tree, data, config.label_pattern, config.multi_label)
        return _keep(Manifest(named.clips, named.warnings, config.multi_label), chosen)
    found = Manifest(to_table([]))
    if chosen is not None or config.data_config is None:
        found = _read_audio_files(tree, data, config, chosen)
    if chosen is None and found.clips.empty:
        inside = read_parquet_folder(data, "--data", config, tree, config.data_config)
        if inside is not None:
            return _of_parquet(inside, config)
    return found


def _read_audio_files(
    tree: FolderTree, data: Path, config: ManifestConfig, chosen: CardAudio | None
) -> Manifest:
    """Return the clips of class folders; without these, of a table that lists the files of the folder.

    If the only class folder has nothing but folders, these are the classes.

    `chosen` are the only files to read: class folders are those in the deepest folder that has all of them,
    and the table is there or in a folder above.
    """
    folders = [""] if chosen is None else chosen.folders
    error: UserError | None = None
    try:
        read_folders = read_class_folders(*_inside(tree, data, folders[0]), config)
        found = _keep(_of_folders(read_folders, config), chosen)
        if found.clips["label"].nunique() >= 2 or (config.birdnet_folders and not found.clips.empty):
            unread = unread_table_warning(
                *_inside(tree, data, folders[0]),
                config.subset(TableConfig),
                len(found.clips),
                found.class_counts,
            )
            return replace(found, warnings=found.warnings + unread)
    except UserError as layout_error:
        error = layout_error
    for folder in folders:
        read = read_folder_table(*_inside(tree, data, folder), config.subset(TableConfig))
        if read is not None and not (table := _keep(_of_table(read), chosen)).clips.empty:
            return table
    if error is not None:
        raise error
    nested = read_nested_classes(read_folders.layout, data, config)
    return found if nested is None else _keep(_of_folders(nested, config), chosen)


def _inside(tree: FolderTree, data: Path, folder: str) -> tuple[FolderTree, Path]:
    return (tree.subtree(folder), data / folder) if folder else (tree, data)


def _keep(found: Manifest, chosen: CardAudio | None) -> Manifest:
    """Return a manifest with the clips of some files only; of all with None."""
    if chosen is None:
        return found
    clips = chosen.keep(found.clips)
    events = found.events and {clip_id: found.events[clip_id] for clip_id in clips["clip_id"]}
    return replace(found, clips=clips, events=events, warnings=chosen.warnings + found.warnings)
