"""Reads what Weights & Biases has written offline: protocol buffers in the log format of LevelDB."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.helpers.processes import wait_until

HEADER_BYTES, BLOCK_BYTES, RECORD_HEADER_BYTES = 7, 32768, 7
FULL, LAST = 1, 4


class OfflineRun(NamedTuple):
    """What one session has written of a run."""

    id: str
    name: str
    group: str
    kind: str
    config: dict[str, Any]
    history: list[dict[str, Any]]
    summary: dict[str, Any]
    artifacts: dict[str, list[str]]
    """Names of files by the type of the artifact."""


def offline_runs(folder: Path) -> list[OfflineRun]:
    """Return what all sessions in `folder/wandb`, which have ended, have written, oldest first."""
    return [_read(session) for session in sorted(folder.glob("wandb/offline-run-*"))]


def _read(session: Path) -> OfflineRun:
    # A process of its own writes the file: `finish` may return before its last records are there.
    wait_until(lambda: any(record.HasField("exit") for record in _records(session)), timeout_s=20)
    records = _records(session)
    run = next(record.run for record in records if record.HasField("run"))
    artifacts: dict[str, list[str]] = {}
    summary: dict[str, Any] = {}
    for record in records:
        if record.HasField("artifact"):
            contents = record.artifact.manifest.contents
            artifacts.setdefault(record.artifact.type, []).extend(item.path for item in contents)
        summary |= _values(record.summary.update)
    return OfflineRun(
        run.run_id,
        run.display_name,
        run.run_group,
        run.job_type,
        _values(run.config.update),
        [_values(record.history.item) for record in records if record.HasField("history")],
        summary,
        artifacts,
    )


def _records(session: Path) -> list[Any]:
    from wandb.proto.wandb_internal_pb2 import Record

    files = session.glob("*.wandb")
    return [Record.FromString(data) for path in files for data in _log_records(path.read_bytes())]


def _values(items: Any) -> dict[str, Any]:
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


def _log_records(data: bytes) -> Iterator[bytes]:
    """Yield the records of a log, which are divided where a block ends."""
    position, parts = HEADER_BYTES, []
    while position + RECORD_HEADER_BYTES <= len(data):
        left = BLOCK_BYTES - position % BLOCK_BYTES
        if left < RECORD_HEADER_BYTES:
            position += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        position += RECORD_HEADER_BYTES
        if position + length > len(data):
            return  # not yet written as a whole
        parts.append(data[position : position + length])
        position += length
        if kind in (FULL, LAST):
            yield b"".join(parts)
            parts = []
