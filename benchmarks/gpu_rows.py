"""Rows of `make gpu`: what was checked or measured, kept in a file after each, and printed as a table."""

from __future__ import annotations

import argparse
import json
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

MAX_NOTE_LENGTH = 150


@dataclass(frozen=True)
class Row:
    """A test with its outcome, or a measurement with its goal."""

    name: str
    outcome: str
    """passed, failed, skipped; measured for a value without a goal; missed for one below its goal."""
    value: float | None = None
    unit: str = ""
    goal: float | None = None
    note: str = ""

    def __str__(self) -> str:
        value = "" if self.value is None else f"{self.value:,.4g}{self.unit and ' ' + self.unit}"
        goal = "" if self.goal is None else f"goal {self.goal:g}"
        return f"{self.outcome:9}{self.name:58} {value:>22}  {goal:9} {self.note[:MAX_NOTE_LENGTH]}".rstrip()


def part_arguments() -> argparse.Namespace:
    """Parse the arguments of a part, which `bench_gpu` runs as a process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path, help="file of the results")
    parser.add_argument("--device", default="cuda", help="not used by parts that run on CPUs")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to test the benchmark")
    return parser.parse_args()


def measured(name: str, value: float, unit: str = "", goal: float | None = None, note: str = "") -> Row:
    """Return the row of a measurement, whose value should be at least `goal`."""
    outcome = "measured" if goal is None else "passed" if value >= goal else "missed"
    return Row(name, outcome, value, unit, goal, note)


@dataclass
class PartResult:
    """Rows and details of a part, written to a file after each change."""

    path: Path
    rows: list[Row] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)

    def add(self, row: Row, **details: Any) -> None:
        """Add a row, and details under its name."""
        self.rows.append(row)
        self.details |= {row.name: details} if details else {}
        print(row, flush=True)
        self.write()

    @contextmanager
    def attempt(self, name: str) -> Iterator[None]:
        """Turn an error of the block into a failed row, and continue after the block."""
        start_time = time.perf_counter()
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self.add(Row(name, "failed", note=one_line(f"{type(error).__name__}: {error}")))
        self.details.setdefault("seconds", {})[name] = round(time.perf_counter() - start_time, 1)
        self.write()

    def write(self) -> None:
        """Write the file."""
        content = {"rows": [asdict(row) for row in self.rows], "details": self.details}
        self.path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def run_attempts(result: PartResult, actions: dict[str, Callable[[], None]]) -> None:
    """Run each action whatever happened to the others."""
    for name, action in actions.items():
        with result.attempt(name):
            action()


def read_part(path: Path) -> PartResult:
    """Read the file of a part; without rows if there is none."""
    if not path.is_file():
        return PartResult(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    return PartResult(path, [Row(**row) for row in content["rows"]], content["details"])


def one_line(text: str) -> str:
    """Return a text without line breaks and repeated spaces."""
    return " ".join(text.split())


def table(parts: dict[str, Sequence[Row]]) -> str:
    """Return all rows as text; of the tests that passed only their number."""
    lines = []
    for name, rows in parts.items():
        passed = [row for row in rows if row.outcome == "passed" and row.value is None]
        lines += ["", f"{name}: {len(passed)} tests passed" if passed else f"{name}:"]
        lines += [f"  {row}" for row in rows if row not in passed]
    return "\n".join(lines)
