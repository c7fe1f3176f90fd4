"""How extraction grows: with the number of clips, and with the number of machines.

    python -m benchmarks.bench_scale [--clips 10000 100000 1000000] [--audio FOLDER --nodes 1 2]

1. A CSV of so many clips whose decoding is left out: each part is written with all its columns but tiny spectrograms, in this
   process. What is left is the driver's work: listing, planning, taking in the results, publishing; with its memory.
2. Real clips on a cluster of 1, 2, … nodes of one CPU each, all of them processes on this machine; --nodes up to its cores.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.common import as_wav, save
from pipeline.audio.features import FeatureConfig, Spectrogram
from pipeline.audio.mel import MelConfig
from pipeline.data.manifest import ManifestConfig, read_manifest
from pipeline.data.shards import Rejected, ShardInfo, write_shard
from pipeline.distributed.batch_job import WorkUnit, read_unit_clips, unit_to_row
from pipeline.extract import ExtractConfig, extract, plan_units

TINY = FeatureConfig(mel=MelConfig(sample_rate=8000, n_fft=256, hop_length=256, n_mels=2), seconds=0.1)


def write_list(path: Path, clips: int) -> None:
    """A CSV of clips in ten classes; the files themselves are not there."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "group"])
        writer.writerows(
            [
                f"recordings/station_{i % 97:02d}/2026-11-{i % 28 + 1:02d}/clip_{i:08d}.wav",
                f"class {i % 10}",
                f"station {i % 9973}",
            ]
            for i in range(clips)
        )


def stub(units: list[WorkUnit], config: ExtractConfig) -> Iterator[tuple[ShardInfo, list[Rejected]]]:
    """Makes parts without sound."""
    mel = np.zeros(config.features.shape, np.float16)
    for unit in units:
        clips = read_unit_clips(unit_to_row(unit))
        rows = [[Spectrogram(0, 0.0, "unchanged", mel)] for _ in clips]
        yield write_shard(config.out / unit.name, clips, rows, [], config.features.shape), []


def driver(clips: int) -> dict[str, float]:
    """Rates of the driver's own work, and its greatest memory beyond that of an empty one, in MiB."""
    import resource

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_list(folder / "list.csv", clips)
        config = ExtractConfig(data=folder / "list.csv", out=folder / "out", features=TINY, copies=0)
        config.out.mkdir()
        read_manifest_seconds = -time.perf_counter()
        manifest = read_manifest(config.data, config.subset(ManifestConfig))
        read_manifest_seconds += time.perf_counter()
        plan_seconds = -time.perf_counter()
        plan_units(manifest.clips, config)
        plan_seconds += time.perf_counter()
        del manifest
        at_work: list[int] = []

        def watched(units: list[WorkUnit], c: ExtractConfig) -> Iterator[tuple[ShardInfo, list[Rejected]]]:
            for number, made in enumerate(stub(units, c)):
                if number % 50 == 0:
                    at_work.append(psutil.Process().memory_info().rss)
                yield made

        whole = -time.perf_counter()
        extract(config, watched)
        whole += time.perf_counter()
        return {
            "clips": clips,
            "listed_per_second": clips / read_manifest_seconds,
            "planned_per_second": clips / plan_seconds,
            "all_per_second": clips / whole,
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "growth_at_work_mib": (at_work[-1] - at_work[0]) / 2**20,
        }


def nodes_rate(audio: Path, nodes: int) -> float:
    """Clips a second of an extraction on so many nodes, once they run."""
    from ray.cluster_utils import Cluster

    from cluster.connection.session import session

    with tempfile.TemporaryDirectory() as name:
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        for _ in range(nodes - 1):
            cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        try:
            with session(cluster.address):
                # The first job starts the workers and has them import.
                extract(ExtractConfig(data=audio, out=Path(name) / "first", copies=0, seed=1))
                start = time.perf_counter()
                made = extract(ExtractConfig(data=audio, out=Path(name) / "second", copies=0))
                return made.clips / (time.perf_counter() - start)
        finally:
            cluster.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--audio", type=Path)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeat", type=int, default=16, help="times that each clip of --audio is used")
    parser.add_argument(
        "--alone", action="store_true", help="print the figures of the first number of clips only"
    )
    arguments = parser.parse_args()
    if arguments.alone:
        print(json.dumps(driver(arguments.clips[0])))
        return
    result: dict[str, Any] = {"driver": []}
    for clips in arguments.clips:
        # Each in a process of its own, so that its greatest memory is its own too.
        command = [sys.executable, "-m", "benchmarks.bench_scale", "--alone", "--clips", str(clips)]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        result["driver"].append(json.loads(out.splitlines()[-1]))
    if arguments.audio:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        with tempfile.TemporaryDirectory() as name:
            audio = as_wav(arguments.audio, Path(name) / "wav", arguments.repeat)
            rates = {str(nodes): nodes_rate(audio, nodes) for nodes in arguments.nodes}
        first = rates[str(arguments.nodes[0])] / arguments.nodes[0]
        result["nodes"] = {
            n: {"clips_per_second": rate, "of_linear": rate / (first * int(n))} for n, rate in rates.items()
        }
    save("scale", result)


if __name__ == "__main__":
    main()
