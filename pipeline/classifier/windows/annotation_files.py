"""Files of the events of recordings: `events.csv`, selection tables of Raven, labels of Audacity.

A selection table is tab-separated text with a header, a row for each selection, and times in seconds from the
start of the recording; a label file of Audacity has a line with start, end and label for each event. In both,
tabs, line breaks and quotes in names of classes are replaced: the formats have no way to write them.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from pipeline.classifier.submission.row_ids import time_text
from pipeline.classifier.windows.events import Event
from pipeline.io.concurrent import map_concurrently
from pipeline.io.files import RESERVED_NAMES, csv_text, write_text_atomically

EVENTS_NAME, RAVEN_FOLDER, AUDACITY_FOLDER = "events.csv", "raven", "audacity"
EVENT_COLUMNS = ("id", "start", "end", "label", "probability")
RAVEN_COLUMNS = (
    "Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)",
    "Annotation", "Score",
)  # fmt: skip
# File systems limit names to 255 bytes; this leaves space for an ending and a temporary suffix.
_MAX_NAME_BYTES = 200


class AnnotationWriter:
    """Writes the events of recordings, those of some recordings at a time."""

    def __init__(
        self,
        events_file: BinaryIO,
        out: Path,
        recording_ids: Sequence[str],
        class_names: Sequence[str],
        band: tuple[float, float],
    ):
        """Write the header of `events.csv`.

        Args:
            events_file: open file of all events.
            out: folder of the folders of annotation files; it exists.
            recording_ids: ids of all recordings.
            class_names: classes of the model.
            band: frequency range of the model in Hz.
        """
        self._file, self._out, self._ids = events_file, out, recording_ids
        self._class_names, self._band = class_names, band
        self._names = annotation_names(recording_ids)
        events_file.write(csv_text(EVENT_COLUMNS, []).encode())

    def write(self, events: Iterable[tuple[int, Sequence[Event]]]) -> None:
        """Write the events of recordings, given by their positions; those without events have no files."""
        files: list[tuple[Path, str]] = []
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        for number, found in events:
            if found:
                rows.writerows(_event_rows(self._ids[number], found, self._class_names))
                name = self._names[number]
                table = raven_table(found, self._class_names, self._band)
                files.append((self._out / RAVEN_FOLDER / f"{name}.selections.txt", table))
                labels = audacity_labels(found, self._class_names)
                files.append((self._out / AUDACITY_FOLDER / f"{name}.txt", labels))
        self._file.write(text.getvalue().encode())
        for folder in {path.parent for path, _ in files}:
            folder.mkdir(parents=True, exist_ok=True)
        for _ in map_concurrently(lambda file: write_text_atomically(*file), files):
            pass


def _event_rows(recording_id: str, events: Sequence[Event], class_names: Sequence[str]) -> Iterator[tuple]:
    for event in events:
        times = time_text(event.start), time_text(event.end)
        yield recording_id, *times, class_names[event.label], f"{event.probability:.4f}"


def raven_table(events: Sequence[Event], class_names: Sequence[str], band: tuple[float, float]) -> str:
    """Return the text of a selection table; `band` is the frequency range of the model in Hz."""
    header = "\t".join(RAVEN_COLUMNS)
    frequencies = f"{band[0]:.1f}\t{band[1]:.1f}"
    rows = "".join(
        f"{number}\tSpectrogram 1\t1\t{event.start:.3f}\t{event.end:.3f}\t{frequencies}\t"
        f"{_plain(class_names[event.label])}\t{event.probability:.4f}\n"
        for number, event in enumerate(events, 1)
    )
    return f"{header}\n{rows}"


def audacity_labels(events: Sequence[Event], class_names: Sequence[str]) -> str:
    """Return the text of a label file."""
    return "".join(
        f"{event.start:.6f}\t{event.end:.6f}\t{_plain(class_names[event.label])}\n" for event in events
    )


@cache
def _plain(name: str) -> str:
    return re.sub(r"[\t\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+", " ", name).replace('"', "'")


def annotation_names(recording_ids: Sequence[str]) -> list[str]:
    """Return the path of the annotation files of each recording, without ending, below their folder.

    It is the id without extension, and with it for recordings that differ only in that. Ids that are not
    relative paths, or not valid as file names on every system, are changed.
    """
    stems = [text.removesuffix(PurePosixPath(text).suffix) for text in recording_ids]
    counts = Counter(map(str.casefold, stems))
    ids = zip(recording_ids, stems, strict=True)
    return _numbered([_safe_path(stem if counts[stem.casefold()] == 1 else text) for text, stem in ids])


def _safe_path(text: str) -> str:
    """Return a relative path without characters and names that some file system does not allow."""
    parts = [part for part in text.replace("\\", "/").split("/") if part not in ("", ".")]
    return "/".join(map(_safe_name, parts)) or "recording"


def _safe_name(name: str) -> str:
    safe = re.sub(r'[\x00-\x1f\x7f<>:"|?*]', "_", name).rstrip(". ")
    safe = safe.encode("utf-8", "replace")[:_MAX_NAME_BYTES].decode("utf-8", "ignore").rstrip(". ") or "_"
    return f"_{safe}" if safe.partition(".")[0].casefold() in RESERVED_NAMES else safe


def _numbered(paths: Sequence[str]) -> list[str]:
    """Return paths that differ, also on file systems that ignore case."""
    used: set[str] = set()
    names = []
    for path in paths:
        name, number = path, 2
        while name.casefold() in used:
            name, number = f"{path}_{number}", number + 1
        used.add(name.casefold())
        names.append(name)
    return names
