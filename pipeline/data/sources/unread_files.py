"""What to do about a folder whose audio is inside files of other kinds: archives, Arrow files, arrays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from pipeline.audio.file_types import ending, is_hidden
from pipeline.data.clips import shown
from pipeline.io.folder_tree import FolderTree, join

# Levels of folders that are searched, as in `train/data-00000-of-00001.arrow`.
_MAX_DEPTH = 2
_ARCHIVE = "an archive: unpack it"
_ARRAYS = "a file of arrays: write the sounds in it as audio files, such as WAV"
_KINDS = {
    **dict.fromkeys("zip tar tgz gz bz2 tbz2 xz zst rar 7z".split(), _ARCHIVE),
    **dict.fromkeys("npy npz h5 hdf5 mat pkl pt tfrecord".split(), _ARRAYS),
    "arrow": "an Arrow file of Hugging Face datasets (save_to_disk): write Parquet files with its to_parquet",
}


def unread_files_hint(tree: FolderTree) -> str:
    """Return which file may have the audio of a folder without any, and what to do; empty for none."""
    found = next((name for name in _files(tree, "", _MAX_DEPTH) if ending(name) in _KINDS), None)
    return "" if found is None else f"{shown(found)} is {_KINDS[ending(found)]}"


def _files(tree: FolderTree, folder: str, depth: int) -> Iterator[str]:
    with suppress(OSError):  # an unreadable folder, which is reported otherwise
        listing = tree.list(folder)
        yield from (join(folder, name) for name in listing.files if not is_hidden(name))
        for name in listing.folders + listing.linked_folders if depth else []:
            if not is_hidden(name):
                yield from _files(tree, join(folder, name), depth - 1)
