"""Where things lie: on this machine, or on a store such as `s3://bucket/folder`, through pyarrow's filesystems.

A `PathOrURI` in settings is a `pathlib.Path`, or a `RemotePath` (`pipeline/io/remote_path.py`) where it names a store.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, PlainSerializer

from pipeline.io.filesystems import SCHEMES
from pipeline.io.remote_path import RemotePath


def to_path(path: Path) -> Any:
    """A path as the user means it: on a store, or, also where a worker stands in another folder, on this machine."""
    # pathlib makes one slash of two.
    found = re.fullmatch(r"([a-z0-9]+):(?:/+([^?]*))?(?:\?(.*))?", str(path))
    if found is None:
        return path.absolute()
    scheme, key, options = found.groups(default="")
    if scheme not in SCHEMES or not key.strip("/"):
        raise ValueError(
            f"no such kind of storage; known are a path of this machine, {', '.join(f'{s}://bucket/…' for s in SCHEMES)}"
        )
    return RemotePath(scheme, PurePosixPath(key.strip("/")), options)


def _text_of_remote(value: Any) -> Any:
    return str(value) if isinstance(value, RemotePath) else value


# The type says Path, as most are; a RemotePath stands in for one.
PathOrURI = Annotated[
    Path, BeforeValidator(_text_of_remote), AfterValidator(to_path), PlainSerializer(str, return_type=str)
]


def is_remote(path: Any) -> bool:
    """Whether a place lies on a store."""
    return isinstance(path, RemotePath)


def pyarrow_source(path: Path) -> Any:
    """A file as pyarrow reads it from any place."""
    return path.open_input() if isinstance(path, RemotePath) else path


def remove_tree(path: Path) -> None:
    """Deletes a folder with all in it, if it is there."""
    if isinstance(path, RemotePath):
        path.remove_tree()
    else:
        shutil.rmtree(path, ignore_errors=True)


def copy_tree(source: Path, target: Path, leave_out: Sequence[str] = ()) -> None:
    """Makes `target` the same as the folder `source`, apart from entries with the names `leave_out`.

    On this machine by links, without copying: files are replaced here, never changed.
    """
    if not isinstance(source, RemotePath):
        new = target.with_name(f".{target.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        if source.is_dir():
            shutil.copytree(source, new, copy_function=os.link, ignore=shutil.ignore_patterns(*leave_out))
        else:
            new.mkdir(parents=True)
        shutil.rmtree(target, ignore_errors=True)
        new.rename(target)
        return
    assert isinstance(target, RemotePath)
    remove_tree(target)
    for path, _ in source.walk():
        below = path.relative_to(source)
        if not set(below.parts) & set(leave_out):
            path.filesystem.copy_file(path.key, (target / below).key)


@contextmanager
def local_file(path: Path) -> Iterator[Path]:
    """A file on this machine with the content of `path`, for libraries that read no other."""
    if not isinstance(path, RemotePath):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        copy.write_bytes(path.read_bytes())
        yield copy


def storage_arguments(path: Path) -> dict[str, Any]:
    """Of Ray's `RunConfig`: where it may write."""
    if isinstance(path, RemotePath):
        return {"storage_path": path.key, "storage_filesystem": path.filesystem}
    return {"storage_path": str(path)}


def read_if_remote(source: Any) -> Any:
    """What a file's name in a manifest stands for: the bytes of an object, or the name itself on this machine.

    Raises:
        FileNotFoundError: no such object.
        OSError: when the store can't be asked.
    """
    return to_path(Path(source)).read_bytes() if isinstance(source, str) and is_store_uri(source) else source


def is_store_uri(text: str) -> bool:
    """Whether a place, as written, lies on a store."""
    return text.startswith(tuple(f"{scheme}://" for scheme in SCHEMES))
