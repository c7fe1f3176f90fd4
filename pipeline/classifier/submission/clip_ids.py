"""Clips by ids as others write them: without folder or extension, in another Unicode form or case."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import PurePosixPath

from pipeline.audio.file_types import is_audio
from pipeline.data.clips import normalize_id


class ClipIndex:
    """Finds clips by their ids."""

    rows, elsewhere = "audio files", "predictions.parquet"
    hint = "ids are paths below --audio, or file names"

    def __init__(self, clip_ids: Sequence[str], paths: Sequence[str] = ()):
        """Index clips.

        Args:
            clip_ids: paths below the audio folder, with forward slashes.
            paths: absolute paths or URIs of the same clips, which show whether an id begins with the name of
                the audio folder.
        """
        self.clip_ids = [plain_id(clip_id) for clip_id in clip_ids]
        self._paths = paths

    def __len__(self) -> int:
        return len(self.clip_ids)

    def find(self, text: str) -> list[int]:
        """Return the positions of the clips that an id can mean: none, one, or several if it is ambiguous.

        An exact path is unambiguous, even if other files have the same name. Otherwise the id may lack the
        folder or the extension; if that matches nothing either, it may differ in case, in leading zeros of
        the file name, in its audio extension, or begin with the name or the path of the audio folder.
        """
        name = plain_id(text)
        if name in self._exact:
            return [self._exact[name]]
        return self._by_name.get(name) or self._by_loose_name.get(_loose(name)) or self._below_folder(name)

    def is_name(self, text: str) -> bool:
        """Return whether an id is the name of a clip as it is, but for folder and extension."""
        name = plain_id(text)
        return name in self._exact or name in self._by_name

    def _below_folder(self, name: str) -> list[int]:
        """Return the clip of an id such as `test/1.wav` or `/a/test/1.wav`, if `test` is the audio folder."""
        parts = name.split("/")
        for start in range(1, len(parts)):
            matches = self._by_name.get("/".join(parts[start:]), [])
            matches = [i for i in matches if _without_extension(self._path(i)).endswith(_suffix(name))]
            if matches:
                return matches
        return []

    def _path(self, position: int) -> str:
        return plain_id(self._paths[position]) if len(self._paths) else ""

    @cached_property
    def _exact(self) -> dict[str, int]:
        return {clip_id: position for position, clip_id in enumerate(self.clip_ids)}

    @cached_property
    def _by_name(self) -> dict[str, list[int]]:
        # The name of the file as well: in a table with ids of its own, `2.wav` may have the id 1.
        return self._by_names_of(
            lambda position: (
                {*_names(self.clip_ids[position]), self._path(position).rpartition("/")[2]} - {""}
            )
        )

    @cached_property
    def _by_loose_name(self) -> dict[str, list[int]]:
        return self._by_names_of(lambda position: {_loose(name) for name in _names(self.clip_ids[position])})

    def _by_names_of(self, names_of: Callable[[int], set[str]]) -> dict[str, list[int]]:
        positions: dict[str, list[int]] = {}
        for position in range(len(self.clip_ids)):
            for name in names_of(position):
                positions.setdefault(name, []).append(position)
        return positions


def plain_id(text: str) -> str:
    """Return an id with forward slashes, in composed Unicode form, without surrounding blanks or `./`."""
    return normalize_id(text.strip()).replace("\\", "/").removeprefix("./")


def _names(clip_id: str) -> Iterator[str]:
    """Yield the names that refer to a clip: with or without folder and extension."""
    path = PurePosixPath(clip_id)
    yield from (clip_id, path.name, path.stem, str(path.with_suffix("")))


def _loose(name: str) -> str:
    """Return a name without case, audio extension and leading zeros of the file name."""
    folder, slash, file = _without_extension(name).rpartition("/")
    return (folder + slash + re.sub(r"^0+(?=\d)", "", file)).casefold()


def _without_extension(name: str) -> str:
    return name.rpartition(".")[0] if is_audio(name) else name


def _suffix(name: str) -> str:
    return "/" + _without_extension(name).removeprefix("/")
