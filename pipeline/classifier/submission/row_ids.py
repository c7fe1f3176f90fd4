"""Ids of windows in a submission: written by a pattern such as `{stem}_{end}`, and read by it in a sample."""

from __future__ import annotations

import itertools
import re
import string
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import PurePosixPath

import numpy as np

from pipeline.classifier.prediction.recording_list import RecordingList
from pipeline.classifier.submission.clip_ids import ClipIndex, plain_id
from pipeline.data.clips import shown
from pipeline.data.windows import window_id
from pipeline.io.errors import UserError

FLAG = "--row-id"
FILE_FIELDS, TIME_FIELDS = ("stem", "name", "id"), ("start", "end")
_NUMBER = r"\d+(?:\.\d+)?"
# Tolerance of times in ids, in seconds: starts are rounded to 1 ms.
_TOLERANCE = 0.0015


class RowIdPattern:
    """Pattern of ids, with fields for the recording and for the time of a window."""

    def __init__(self, text: str):
        """Parse a pattern.

        Raises:
            UserError: a field that does not exist, none, or two without a character between them.
        """
        self.text = text
        try:
            parts = list(string.Formatter().parse(text))
        except ValueError as error:
            raise UserError(f"{FLAG} {text}: {error}; {_fields_hint()}") from None
        self.fields = [name for _, name, _, _ in parts if name is not None]
        for _, name, format_spec, conversion in parts:
            if name is not None and (name not in FILE_FIELDS + TIME_FIELDS or format_spec or conversion):
                raise UserError(f"{FLAG} {text}: no field '{name}'; {_fields_hint()}")
        if not self.fields:
            raise UserError(f"{FLAG} {text}: no field in it; {_fields_hint()}")
        if any(before[1] and part[1] and not part[0] for before, part in itertools.pairwise(parts)):
            raise UserError(f"{FLAG} {text}: put a character between two fields, as in {{stem}}_{{end}}")
        self.regex = re.compile(
            "".join(_part_regex(literal, name) for literal, name, _, _ in parts), re.DOTALL
        )

    def ids(self, recordings: RecordingList) -> list[str]:
        """Return the id of every window.

        Raises:
            UserError: two windows have the same id.
        """
        starts = recordings.starts()
        times = zip(starts.tolist(), np.round(starts + recordings.window, 3).tolist(), strict=True)
        ids = [
            self.text.format(**fields, start=time_text(start), end=time_text(end))
            for fields in _file_fields(recordings)
            for start, end in (next(times) for _ in range(fields.pop("count")))
        ]
        repeated, count = Counter(ids).most_common(1)[0]
        if count > 1:
            raise UserError(
                f"{FLAG} {self.text}: {count} windows have the id {shown(repeated)}; "
                "use {id} instead of {stem} or {name}, and {start} or {end}"
            )
        return ids


def _file_fields(recordings: RecordingList) -> Iterator[dict]:
    for recording_id, count in zip(recordings.clips["clip_id"], recordings.counts.tolist(), strict=True):
        path = PurePosixPath(recording_id)
        yield {"stem": path.stem, "name": path.name, "id": recording_id, "count": count}


def _fields_hint() -> str:
    return f"fields are {', '.join(f'{{{name}}}' for name in FILE_FIELDS + TIME_FIELDS)}"


def _part_regex(literal: str, name: str | None) -> str:
    if name is None:
        return re.escape(literal)
    return re.escape(literal) + (f"({_NUMBER})" if name in TIME_FIELDS else "(.+)")


def time_text(seconds: float) -> str:
    """Return a time as it is in an id: an integer where it is whole."""
    return str(int(seconds)) if seconds == int(seconds) else f"{seconds:.3f}".rstrip("0")


class WindowIndex:
    """Finds windows by ids that follow a pattern; used like a `ClipIndex`."""

    rows, elsewhere = "windows", "windows.parquet"

    def __init__(self, recordings: RecordingList, pattern: RowIdPattern, files: ClipIndex):
        """Use `files` to find the recordings."""
        self.pattern, self._recordings, self._files = pattern, recordings, files

    def __len__(self) -> int:
        return self._recordings.num_windows

    @property
    def hint(self) -> str:
        """What ids are, for messages."""
        window, hop = self._recordings.window, self._recordings.hop
        return f"ids are {self.pattern.text} of windows of {window:g} s, every {hop:g} s"

    @cached_property
    def clip_ids(self) -> Sequence[str]:
        """Names of all windows, for messages."""
        return _WindowNames(self._recordings)

    def find(self, text: str) -> list[int]:
        """Return the positions of the windows that an id can mean."""
        match = self.pattern.regex.fullmatch(plain_id(text))
        if match is None:
            return []
        fields = list(zip(self.pattern.fields, match.groups(), strict=True))
        times = {name: float(value) for name, value in fields if name in TIME_FIELDS}
        files = [set(self._files.find(value)) for name, value in fields if name in FILE_FIELDS]
        recordings = set.intersection(*files) if files else set(range(len(self._recordings)))
        return [position for file in sorted(recordings) for position in self._windows_at(file, times)]

    def is_name(self, text: str) -> bool:
        """Return whether an id names a recording as it is, but for folder and extension."""
        match = self.pattern.regex.fullmatch(plain_id(text))
        return match is not None and all(
            name in TIME_FIELDS or self._files.is_name(value)
            for name, value in zip(self.pattern.fields, match.groups(), strict=True)
        )

    def _windows_at(self, recording: int, times: dict[str, float]) -> range:
        """Return the positions of the windows of a recording at some times."""
        first, count = int(self._recordings.first[recording]), int(self._recordings.counts[recording])
        if not times:
            return range(first, first + count)
        starts = [time - (self._recordings.window if name == "end" else 0.0) for name, time in times.items()]
        index = round(starts[0] / self._recordings.hop)
        if index < 0 or any(abs(index * self._recordings.hop - start) > _TOLERANCE for start in starts):
            return range(0)
        if np.isnan(self._recordings.seconds[recording]):
            return range(first, first + 1)  # of unknown length: any of its windows is unreadable
        return range(first + index, first + index + 1) if index < count else range(0)


class _WindowNames(Sequence[str]):
    """Names of all windows, made when they are needed."""

    def __init__(self, recordings: RecordingList):
        self._recordings = recordings

    def __len__(self) -> int:
        return self._recordings.num_windows

    def __getitem__(self, position):  # type: ignore[no-untyped-def]
        recordings = self._recordings
        if not 0 <= position < len(self):
            raise IndexError(position)
        number = int(np.searchsorted(recordings.first, position, side="right")) - 1
        start = (position - int(recordings.first[number])) * recordings.hop
        return window_id(recordings.clips["clip_id"].iloc[number], start)
