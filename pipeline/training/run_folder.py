"""What a training leaves behind, and what later commands read.

RUN/config.json            the resolved configuration
RUN/metrics.jsonl          one line an epoch
RUN/tensorboard/           the same, for TensorBoard
RUN/progress.json          where the present epoch stands
RUN/owner.json             which command writes here
RUN/checkpoints/           to go on from
RUN/samples/               of a generator: sounds and pictures of every few epochs
RUN/judge/                 of a generator: the runs of its two judges
RUN/model.safetensors      the weights to use, with all that prediction needs to know; model.json says the same to people
RUN/summary.json           the result; there when the run is finished
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.config import diff_settings
from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.files import write_text_atomically


class RunFolder:
    """Reads and writes the small files of a run."""

    def __init__(self, path: Path):
        self.path = path

    def begin(
        self,
        command: str,
        settings: dict[str, Any],
        shards: Path,
        digest: str,
        extra_digests: Sequence[str] = (),
    ) -> None:
        """Writes `config.json`, or checks that the run is the same one as before: same settings, same content of shards.

        Args:
            command: that begins it.
            settings: JSON-able; what makes the run what it is.
            shards: where they lie now.
            digest: of their content.
            extra_digests: of further sets.

        Raises:
            UserError: when the folder holds a run of other settings or other shards.
        """
        wanted = {
            "command": command,
            "shards_digest": digest,
            "extra_digests": list(extra_digests),
            "config": settings,
        }
        there = self.read_json("config.json")
        if there is not None:
            changes = diff_settings(there, wanted, "")
            if changes:
                change = changes[0].removeprefix("config.")
                raise UserError(
                    f"--run {self.path} holds a run with {change}; choose another --run, or delete that folder to start anew"
                )
            return
        with report_os_errors("creating", self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self.write_json("config.json", {**wanted, "shards": str(shards)})

    def acquire(self) -> str:
        """Makes the caller the run's owner: workers of an earlier command, which may have outlived it, stop at their next write."""
        owner = uuid.uuid4().hex
        self.write_json("owner.json", owner)
        return owner

    def check_owner(self, owner: str | None) -> None:
        """Raises `UserError` where another command has claimed the run since; none is not checked."""
        if owner is not None and self.read_json("owner.json") != owner:
            raise UserError(f"--run {self.path}: another command has taken this run over")

    def write_json(self, name: str, values: Any) -> None:
        """Replaces a file in one step."""
        write_text_atomically(self.path / name, json.dumps(values, indent=1, ensure_ascii=False))

    def read_json(self, name: str) -> Any:
        """The file's values, or none where there is no file.

        Raises:
            UserError: when it is not JSON.
        """
        try:
            return json.loads((self.path / name).read_text())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise UserError(f"{self.path / name} is damaged ({error})") from None

    def write_history(self, history: list[dict[str, Any]]) -> None:
        """Replaces `metrics.jsonl`: after a resumed epoch no line stands twice."""
        write_text_atomically(
            self.path / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in history)
        )

    def read_history(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl`, one an epoch."""
        path = self.path / "metrics.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
