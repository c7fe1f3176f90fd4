"""Where outputs may be written: not among the recordings that are read, which they would hide."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath

from pipeline.data.clips import normalize_id
from pipeline.io.errors import UserError
from pipeline.io.storage import is_store_uri, to_path


def check_outside_data(out: Path, data: Path, class_names: Collection[str]) -> None:
    """Raise `UserError` if `out` is the data folder or in a class folder, whose files become clips later."""
    if not data.is_dir():
        return  # a CSV lists its clips
    inner = PurePosixPath(os.path.relpath(location_of(out), location_of(data))).parts
    if ".." in inner:
        return
    if not inner:
        raise UserError(f"--out {out} is the data folder: choose a folder for the shards alone")
    # Class folders are in the data folder, or one level below in `train/`.
    names = set(map(normalize_id, class_names))
    for depth in (0, 1):
        name = normalize_id(inner[depth]) if depth < len(inner) else ""
        if name in names and (data / "/".join(inner[: depth + 1])).is_dir():
            raise UserError(
                f"--out {out} is in the folder of class '{name}', whose files are clips: choose another --out"
            )


def check_without_recordings(out: Path, sources: Iterable[Path], paths: Iterable[str]) -> None:
    """Raise `UserError` if `out` is a folder in one of `sources` with recordings, of those at `paths`.

    As an output folder it is left out when the source is read again.
    """
    location = location_of(out)
    # In this order: in an object store, `is_dir` is a request.
    if not any(location.startswith(f"{location_of(source)}/") and source.is_dir() for source in sources):
        return
    folders = {path.rpartition("/")[0] for path in paths}
    if any(f"{location_of(folder)}/".startswith(f"{location}/") for folder in folders):
        raise UserError(
            f"--out {out} is a folder of recordings, which would be left out from then on: choose another "
            "--out"
        )


def location_of(path: Path | str) -> str:
    """Return a path without links and relative parts, or a URI without options, for comparisons."""
    text = str(path)
    return to_path(text).without_options() if is_store_uri(text) else os.path.realpath(text)
