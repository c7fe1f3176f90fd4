"""Notes of a run's workers in `notes.json`, as their own output does not reach the console of the command.

A warning is a text, other notes are `{"info": text}`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from pipeline.training.run_folder import NOTES_NAME, RunFolder


@dataclass(frozen=True)
class Note:
    """What a worker has to say about a run."""

    text: str
    is_warning: bool = True

    @property
    def level(self) -> int:
        """Level of the log message."""
        return logging.WARNING if self.is_warning else logging.INFO


def read_notes(run: RunFolder) -> list[Note]:
    """Read the notes of a run.

    Raises:
        UserError: the file is damaged.
    """
    return [
        Note(str(entry["info"]), is_warning=False) if isinstance(entry, dict) else Note(str(entry))
        for entry in run.read_json(NOTES_NAME) or []
    ]


def write_notes(run: RunFolder, notes: list[Note]) -> None:
    """Replace the notes of a run."""
    run.write_json(NOTES_NAME, [note.text if note.is_warning else {"info": note.text} for note in notes])
