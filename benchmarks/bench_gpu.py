"""Checks and measures everything that melray does on a GPU: `make gpu`, under 8 minutes with 16 CPU cores.

    python -m benchmarks.bench_gpu [--only correctness|training|inference|extraction]

The parts run one after another, the tests of `tests/gpu/` within theirs concurrently, and each has a time
limit: a failure or a hang is a row of the table, and the other parts run nevertheless. After each part its
rows and details are written to `results/gpu-<card>.json`, next to those of parts that are not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.common import RESULTS, write_result
from benchmarks.gpu_data import write_clips
from benchmarks.gpu_rows import PartResult, Row, one_line, read_part, table

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests/gpu"
# Time limits in seconds.
TOTAL_S = 470
PARTS = {"correctness": 205, "training": 80, "inference": 85, "extraction": 105}
DESCRIPTIONS = {
    "correctness": "tests/gpu: steps against the CPU, CUDA graphs, resume, NCCL, precisions, commands",
    "training": "samples/s of classifier and GAN against bare loops, GPU busy, share of the card's limits",
    "inference": "prediction against all CPU cores, vocoder",
    "extraction": "spectrograms on 1, 2, 4, 8 and 16 CPUs",
}
CLIPS_PER_CLASS = 12


@dataclass(frozen=True)
class Run:
    """Settings of a call."""

    device: str
    quick: bool
    logs: Path
    deadline: float
    """Time by `time.monotonic()` at which all ends."""


def run_part(name: str, run: Run) -> PartResult:
    """Run a part in its time limit; what is not finished by then is a failed row."""
    print(f"{name}: {DESCRIPTIONS[name]}", flush=True)
    start_time = time.monotonic()
    deadline = min(run.deadline, start_time + PARTS[name])
    result = (run_tests if name == "correctness" else run_benchmark)(name, run, deadline)
    result.details["total_seconds"] = round(time.monotonic() - start_time, 1)
    return result


def run_benchmark(name: str, run: Run, deadline: float) -> PartResult:
    """Run `benchmarks/gpu_<name>.py`."""
    path, log = run.logs / f"{name}.json", run.logs / f"{name}.log"
    path.unlink(missing_ok=True)
    flags = ["--device", run.device, *(["--quick"] if run.quick else [])]
    command = [sys.executable, "-m", f"benchmarks.gpu_{name}", str(path), *flags]
    (code,) = run_all({log: command}, {}, deadline)
    result = read_part(path)
    if code:
        result.rows.append(Row(name, "failed", note=exit_note(code, log)))
    return result


def run_tests(name: str, run: Run, deadline: float) -> PartResult:
    """Run the files of `tests/gpu/` concurrently; the tests report their outcomes themselves."""
    result, files = PartResult(run.logs / f"{name}.json"), sorted(TESTS.glob("test_*.py"))
    commands, outcomes = {}, run.logs / "outcomes.jsonl"
    outcomes.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        write_clips(Path(folder), CLIPS_PER_CLASS)
        for file in files:
            flags = ["-p", "no:cacheprovider", "-o", "addopts=", "--basetemp", f"{folder}/{file.stem}"]
            commands[run.logs / f"{file.stem}.log"] = [sys.executable, "-m", "pytest", str(file), *flags]
        variables = {
            "MELRAY_GPU_DATA": folder,
            "MELRAY_GPU_OUTCOMES": str(outcomes),
            "MELRAY_GPU_DEVICE": run.device,
        }
        codes = run_all(commands, variables, deadline)
    result.rows += read_outcomes(outcomes)
    for file, log, code in zip(files, commands, codes, strict=True):
        if code not in (0, 1, 5):  # passed, failed tests, no tests
            result.rows.append(Row(file.stem, "failed", note=exit_note(code, log)))
    return result


def read_outcomes(path: Path) -> list[Row]:
    """Return a row per test; one that has started and not ended is failed."""
    rows: dict[str, Row] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        event = json.loads(line)
        rows[event["name"]] = Row(
            event["name"].removeprefix("tests/gpu/"),
            event["outcome"],
            note=one_line(f"{event['seconds']:.0f} s  {event['message']}"),
        )
    return list(rows.values())


def run_all(commands: dict[Path, list[str]], variables: dict[str, str], deadline: float) -> list[int | None]:
    """Run commands concurrently, each with its log file; return their exit codes, None if killed."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "RAY_USAGE_STATS_ENABLED": "0", **variables}
    processes = []
    for log, command in commands.items():
        with log.open("wb") as file:
            processes.append(subprocess.Popen(command, stdout=file, stderr=file, env=environment, cwd=ROOT))
    codes: list[int | None] = []
    for process in processes:
        try:
            codes.append(process.wait(max(0.0, deadline - time.monotonic())))
        except subprocess.TimeoutExpired:
            codes.append(None)
            kill_tree(process)
    return codes


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all its descendants."""
    descendants = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    for child in descendants:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()


def exit_note(code: int | None, log: Path) -> str:
    """Return why a process ended, with the last line of its log."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    reason = "killed at its time limit" if code is None else f"exit code {code}"
    return f"{reason}: {one_line(lines[-1]) if lines else 'no output'}"


def card_name() -> str:
    """Return the name of the GPU for the file of the results, such as `h200`."""
    name = torch.cuda.get_device_name().lower() if torch.cuda.is_available() else "none"
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"nvidia|geforce|tesla", "", name)).strip("-")


def save(path: Path, results: dict[str, PartResult]) -> None:
    """Write the rows and details of parts, and keep those of other parts that the file has."""
    previous = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    parts: dict[str, Any] = {name: previous[name] for name in PARTS if name in previous}
    for name, result in results.items():
        parts[name] = {"rows": [asdict(row) for row in result.rows], "details": result.details}
    write_result(path, parts)


def print_plan(parts: Sequence[str]) -> None:
    """Print what a host with a GPU would do."""
    print("no GPU that torch can use: nothing is run. On a host with a GPU this command runs")
    for name in parts:
        print(f"  {name:12} {DESCRIPTIONS[name]} (up to {PARTS[name]} s)")
    print(f"and writes {RESULTS.relative_to(ROOT)}/gpu-<card>.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=PARTS, action="append", help="run this part; may be repeated")
    parser.add_argument("--logs", type=Path, default=ROOT / "runs/gpu", help="folder of the logs")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    # To test this script on a host without a GPU.
    parser.add_argument("--device", default="cuda", help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    names = [name for name in PARTS if name in (arguments.only or PARTS)]
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print_plan(names)
        return
    arguments.logs.mkdir(parents=True, exist_ok=True)
    start_time = time.monotonic()
    run = Run(arguments.device, arguments.quick, arguments.logs.resolve(), start_time + TOTAL_S)
    path, results = arguments.results / f"gpu-{card_name()}.json", {}
    for name in names:
        results[name] = run_part(name, run)
        save(path, results)
    print(table({name: result.rows for name, result in results.items()}))
    print(f"\n{time.monotonic() - start_time:.0f} s; {path}; logs: {run.logs}")
    sys.exit(any(row.outcome == "failed" for result in results.values() for row in result.rows))


if __name__ == "__main__":
    main()
