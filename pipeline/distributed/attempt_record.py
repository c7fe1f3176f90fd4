"""Records of attempts at work units, which outlive the process of an attempt: JSON files in `.attempts`.

They are not synced: a record must outlive its process, not its node. On a full disk the output of the unit
itself fails with an error.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class AttemptRecord:
    """A record of the attempts at one work unit."""

    folder: Path
    """Folder of the unit's output."""
    name: str
    """Name of the unit, with an ending for the kind of record."""
    damaged: dict[str, Any]
    """Values of a record that was not written completely, as the process was lost meanwhile."""

    @property
    def _path(self) -> Path:
        return records_folder(self.folder) / self.name

    def read(self) -> dict[str, Any] | None:
        """Return the values of the record; None if there is none."""
        try:
            return json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError:
            return self.damaged

    def write(self, values: dict[str, Any]) -> None:
        """Write or replace the record, if possible."""
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps(values), encoding="utf-8")

    def delete(self) -> None:
        """Delete the record, if there is one."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def records_folder(folder: Path) -> Path:
    """Return the folder of all records of the units whose outputs are in `folder`."""
    return folder / ".attempts"
