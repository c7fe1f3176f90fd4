"""Extraction on 1, 2, 4, 8 and 16 CPUs of a host: `python -m benchmarks.gpu_extraction FILE`.

Each job runs in a session with that many CPUs whose workers have started, from files to published shards,
with the same number of clips per CPU. Plain processes that compute the spectrograms and nothing else show
how the host scales.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.common import timed
from benchmarks.gpu_data import link_copies
from benchmarks.gpu_rows import PartResult, measured, part_arguments, run_attempts
from cluster.connection.session import session
from pipeline.audio.augment import AugmentConfig
from pipeline.audio.features import FeatureConfig, spectrogram_rows
from pipeline.audio.synthetic_dataset import write_dataset
from pipeline.distributed.worker import disable_malloc_trim
from pipeline.extract import ExtractConfig, extract

CPUS = (1, 2, 4, 8, 16)
GOAL = 0.9
SECONDS_PER_JOB = 5.0


def compute(paths: list[str]) -> None:
    """Compute the spectrograms of files."""
    disable_malloc_trim()
    for path in paths:
        for _ in spectrogram_rows(path, path, FeatureConfig(), AugmentConfig(copies=0)):
            pass


def plain_rate(paths: list[str], processes: int) -> float:
    """Return clips per second of plain processes, each of which computes all files."""
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pool.map(compute, [paths[:4]] * processes, chunksize=1)
        return processes * len(paths) / timed(lambda: pool.map(compute, [paths] * processes, chunksize=1))


def job_rate(clips: list[Path], cpus: int, clips_per_cpu: int, folder: Path) -> float:
    """Return clips per second of an extraction on `cpus` CPUs, after a small one that starts the workers."""
    with session(cpus=cpus):
        for name, count in (("warm", 4 * cpus), ("job", clips_per_cpu * cpus)):
            repeats = -(-count // len(clips))
            data = link_copies(clips, folder / f"{name}-{cpus}", repeats)
            config = ExtractConfig(data=data, out=folder / f"{name}-{cpus}-shards", copies=0)
            seconds = timed(lambda: extract(config))  # noqa: B023
        return repeats * len(clips) / seconds


def main() -> None:
    arguments = part_arguments()
    result = PartResult(arguments.file)
    cores = os.cpu_count() or 1
    cpus = [count for count in CPUS if count <= (2 if arguments.quick else cores)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_dataset(folder / "data", train_per_class=1 if arguments.quick else 10, test_per_class=0)
        clips = sorted((folder / "data").rglob("*.wav"))
        rates: dict[int, float] = {}
        plain: dict[int, float] = {}

        def measure_plain() -> None:
            for count in (cpus[0], cpus[-1]):
                plain[count] = plain_rate(list(map(str, clips)), count)
                result.add(measured(f"spectrograms, plain processes: {count}", plain[count], "clips/s"))
            share = plain[cpus[-1]] / plain[1] / cpus[-1]
            result.add(measured(f"spectrograms: {cpus[-1]} plain processes, of linear", share))

        def measure_job(count: int) -> None:
            clips_per_cpu = 8 if arguments.quick else int(SECONDS_PER_JOB * plain.get(1, 60.0))
            rates[count] = job_rate(clips, count, clips_per_cpu, folder)
            result.add(measured(f"extraction, CPUs: {count}", rates[count], "clips/s"))
            if count > 1:
                share = rates[count] / rates[1] / count
                goal = GOAL if count == CPUS[-1] else None
                result.add(measured(f"extraction: {count} CPUs, of linear", share, goal=goal))
            if count in plain:
                share = rates[count] / plain[count]
                result.add(measured(f"extraction: {count} CPUs / plain processes", share))

        actions: dict[str, Callable[[], None]] = {"plain processes": measure_plain}
        # The ends first: they matter most, should time run out.
        for count in sorted(cpus, key=lambda count: (count not in (cpus[0], cpus[-1]), count)):
            actions[f"extraction, {count} CPUs"] = lambda count=count: measure_job(count)  # type: ignore[misc]
        run_attempts(result, actions)


if __name__ == "__main__":
    main()
