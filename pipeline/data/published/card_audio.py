"""Audio files of a configuration that the card of a dataset lists."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import pandas as pd

from pipeline.data.clips import to_table
from pipeline.data.published.dataset_card import check_config, choose_config, read_card_configs
from pipeline.data.published.named_files import check_splits, files_of, training_files, unlisted_files
from pipeline.data.sources.audio_folders import AudioWalk, ClassFolder
from pipeline.io.errors import report_os_errors
from pipeline.io.folder_tree import FolderTree
from pipeline.io.storage import is_store_uri, to_path


@dataclass(frozen=True)
class CardAudio:
    """The audio files of a configuration, or of its training split."""

    paths: frozenset[str]
    """Absolute paths or URIs."""
    folder: str
    """The deepest folder that has all of the files, below the data folder."""
    warnings: list[str] = field(default_factory=list)

    @property
    def folders(self) -> list[str]:
        """That folder, and those that it is in, up to the data folder."""
        parts = self.folder.split("/") if self.folder else []
        return ["/".join(parts[:depth]) for depth in range(len(parts), -1, -1)]

    def keep(self, clips: pd.DataFrame) -> pd.DataFrame:
        """Return the clips whose files are among these."""
        return clips[clips["path"].isin(self.paths)].reset_index(drop=True)


def find_card_audio(tree: FolderTree, data: str, name: str | None, all_splits: bool) -> CardAudio | None:
    """Find the audio files of a configuration in a folder; None if those of the card have none.

    Args:
        tree: the folder.
        data: flag and folder, for messages.
        name: name of the configuration; None: the default.
        all_splits: read all splits, not only the training split.

    Raises:
        UserError: as `choose_config`, `check_splits` and `training_files`, no such configuration in the card,
            or the card cannot be read.
    """
    with report_os_errors("reading", data):
        configs = read_card_configs(tree)
    check_config(configs, name, data)
    if not configs:
        return None
    # The content of a folder that cannot be read is missing, which is reported where the clips are read.
    clips = to_table(AudioWalk(tree, keep_unsupported=True).records([ClassFolder("", "")]))
    usable = [config for config in configs if any(map(config.splits_of, clips["clip_id"]))]
    warnings: list[str] = []
    if not usable or (chosen := choose_config(usable, name, data, warnings)) is None:
        return None
    files = files_of(chosen, clips["clip_id"])
    if not all_splits:
        check_splits(chosen, files, data, "audio file", warnings)
        unlisted = unlisted_files(configs, clips["clip_id"])
        files = training_files(files, data, "audio file", warnings, unlisted)
    clips = clips[clips["clip_id"].isin([file.name for file in files])]
    return CardAudio(frozenset(clips["path"]), _common_folder(clips), warnings)


def _common_folder(clips: pd.DataFrame) -> str:
    """Return the deepest folder that has all clips, below the data folder, by its name on disk."""
    folders = [clip_id.rpartition("/")[0] for clip_id in clips["clip_id"]]
    common = os.path.commonpath(folders)
    # Ids are in composed Unicode form, which the names of files need not have.
    path = clips["path"].iloc[0]
    names = (to_path(path).key if is_store_uri(path) else path).split("/")
    first = len(names) - len(clips["clip_id"].iloc[0].split("/"))
    return "/".join(names[first : first + len(common.split("/"))]) if common else ""
