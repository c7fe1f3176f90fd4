"""Annotated events: a span of time in a recording and the classes that sound in it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from pipeline.data.clips import shown_list
from pipeline.data.labels import join_labels, split_labels
from pipeline.data.sources.row_values import NO_VALUES
from pipeline.io.errors import UserError
from pipeline.io.text import plural

# Class of BirdNET's row for a recording in which it finds nothing, and of BirdCLEF's windows without a bird.
NO_EVENT = "nocall"


class Annotation(NamedTuple):
    """An event from `start` to `end` seconds; a point in time if both are equal."""

    start: float
    end: float
    label: str
    """Its classes, as in `labels.py`; empty if the class is not given."""

    @classmethod
    def of_recording(cls, label: str) -> Annotation:
        """Return the annotation of a whole recording."""
        return cls(0.0, math.inf, label)


def parse_label(text: str) -> str:
    """Return the classes in a text, several of them separated by `;`, as in `labels.py`."""
    return "" if text.strip().lower() in NO_VALUES else join_labels(split_labels(text))


def states_no_event(label: str) -> bool:
    """Return whether the classes in a text state that no event is there."""
    return label.strip().lower() == NO_EVENT


def parse_annotation(
    start: str, end: str, label: str, location: str, is_duration: bool = False, unit: float = 1.0
) -> Annotation:
    """Return the event with these texts.

    Args:
        start: its start.
        end: its end.
        label: its classes.
        location: its file and line, for messages.
        is_duration: `end` is how long it lasts.
        unit: seconds that a value of 1 stands for.

    Raises:
        UserError: a time is no number of seconds, or the end is before the start.
    """
    first, last = unit * _parse_seconds(start, location), unit * _parse_seconds(end, location)
    if is_duration:
        if last < 0:
            raise UserError(f"{location}: the duration {last:g} is negative; correct it")
        last += first
    if last < first:
        raise UserError(
            f"{location}: the end {last:g} is before the start {first:g}; swap or correct the two times"
        )
    return Annotation(first, last, parse_label(label))


def shift_to_file(event: Annotation, offset: str, location: str) -> Annotation:
    """Return an event whose times are those in a sequence of files, as it is in the file that it begins in.

    Args:
        event: the event.
        offset: text of its start in that file; empty if that is the start of the event.
        location: file and line, for messages.

    Raises:
        UserError: the offset is no number of seconds.
    """
    if offset.strip().lower() in NO_VALUES:
        return event
    shift = _parse_seconds(offset, location) - event.start
    return event._replace(start=event.start + shift, end=event.end + shift)


def is_outside(event: Annotation, seconds: float) -> bool:
    """Return whether an event begins after a recording of this length, or ends before it."""
    return event.start >= seconds or (event.start < 0 and event.end <= 0)


def outside_warning(counts: Mapping[str, int]) -> list[str]:
    """Return a warning about events that are not in their recordings, by their number for each recording."""
    outside = [name for name, count in counts.items() if count]
    if not outside:
        return []
    return [
        f"{plural(sum(counts.values()), 'event')} outside of the recording, in annotations of "
        f"{shown_list(outside)}; do the annotations belong to these files?"
    ]


def class_events(events: Iterable[Annotation], seconds: float) -> Iterator[Annotation]:
    """Yield an event for each class of those that are in a recording of this length, cut to its ends.

    Events of a class with the same times are one: that of two rows, such as two views of Raven, or two files.
    """
    inside = (event for event in events if not is_outside(event, seconds))
    named = (event._replace(label=name) for event in inside for name in split_labels(event.label))
    for event in dict.fromkeys(named):
        yield event._replace(start=max(0.0, event.start), end=min(event.end, seconds))


def is_seconds(text: str) -> bool:
    """Return whether a text is a number of seconds."""
    try:
        return math.isfinite(float(_plain_number(text)))
    except ValueError:
        return False


def _parse_seconds(text: str, location: str) -> float:
    if not is_seconds(text):
        raise UserError(f"{location}: time {text.strip()!r} is not a number of seconds, such as 12.5")
    return float(_plain_number(text))


def _plain_number(text: str) -> str:
    """Return a number with a decimal point, which may have been written with a decimal comma."""
    return text.replace(",", ".") if text.count(",") == 1 and "." not in text else text
