"""Scaling of extraction with the number of clips and with the number of nodes.

    python -m benchmarks.bench_scale [--clips 10000 100000 1000000] [--audio FOLDER --nodes 1 2]

1. Driver time and memory for a CSV of --clips clips, which are hard links. Nothing is decoded: shards with
   all columns but tiny spectrograms are written in this process, which leaves listing, planning, collecting
   results and publishing.
2. Real clips on clusters of --nodes nodes of one CPU each, all of them processes on this computer.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.common import convert_to_wav, save_result, timed, write_clip_list
from pipeline.audio.features import FeatureConfig, Spectrogram
from pipeline.audio.mel import MelConfig
from pipeline.data.manifest import ManifestConfig, read_manifest
from pipeline.data.shards import write_shard
from pipeline.distributed.batch_job import StageBuilder, UnitResult
from pipeline.distributed.work_unit import WorkUnit
from pipeline.extract import ExtractConfig, extract, plan_job

TINY = FeatureConfig(mel=MelConfig(sample_rate=8000, n_fft=256, hop_length=256, n_mels=2), seconds=0.1)


def write_empty_shards(units: Sequence[WorkUnit], stages: Sequence[StageBuilder]) -> Iterator[UnitResult]:
    """Run work units without their stages: write shards of constant spectrograms."""
    mel = np.zeros(TINY.shape, np.float16)
    for unit in units:
        clips = unit.read_clips()
        rows = [[Spectrogram(0, 0.0, "unchanged", mel)] for _ in clips]
        yield UnitResult(unit.name, write_shard(unit.path, clips, rows, [], TINY.shape))


def planning_seconds(config: ExtractConfig) -> tuple[float, float]:
    """Measure the seconds to list the clips and to plan the work units of an extraction."""
    start_time = time.perf_counter()
    manifest = read_manifest(config.data, config.subset(ManifestConfig))
    list_seconds = time.perf_counter() - start_time
    return list_seconds, timed(lambda: plan_job(manifest.clips, config, TINY))


def driver_metrics(clips: int) -> dict[str, float]:
    """Measure clips per second of the driver's work, its peak memory and its memory growth in MiB."""
    import resource

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_clip_list(folder / "list.csv", clips)
        config = ExtractConfig(data=folder / "list.csv", out=folder / "out", features=TINY, copies=0)
        list_seconds, plan_seconds = planning_seconds(config)
        memory: list[int] = []

        def runner(units: Sequence[WorkUnit], stages: Sequence[StageBuilder]) -> Iterator[UnitResult]:
            for number, result in enumerate(write_empty_shards(units, stages)):
                if number % 50 == 0:
                    memory.append(psutil.Process().memory_info().rss)
                yield result

        total_seconds = timed(lambda: extract(config, runner))
        return {
            "clips": clips,
            "listed_per_second": clips / list_seconds,
            "planned_per_second": clips / plan_seconds,
            "extracted_per_second": clips / total_seconds,
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "memory_growth_mib": (memory[-1] - memory[0]) / 2**20,
        }


def cluster_rate(audio: Path, nodes: int) -> float:
    """Measure clips per second of an extraction on a running cluster."""
    from ray.cluster_utils import Cluster

    from cluster.connection.session import session

    with tempfile.TemporaryDirectory() as name:
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        for _ in range(nodes - 1):
            cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        try:
            with session(cluster.address):
                # The first job starts the worker processes and their imports.
                extract(ExtractConfig(data=audio, out=Path(name) / "first", copies=0, seed=1))
                start_time = time.perf_counter()
                manifest = extract(ExtractConfig(data=audio, out=Path(name) / "second", copies=0))
                return manifest.clips / (time.perf_counter() - start_time)
        finally:
            cluster.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--audio", type=Path)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeat", type=int, default=16, help="copies of each clip of --audio")
    parser.add_argument(
        "--driver-only", action="store_true", help="print the driver metrics for the first value of --clips"
    )
    arguments = parser.parse_args()
    if arguments.driver_only:
        print(json.dumps(driver_metrics(arguments.clips[0])))
        return
    result: dict[str, Any] = {"driver": []}
    for clips in arguments.clips:
        # In a separate process each, whose peak memory is measured.
        command = [sys.executable, "-m", "benchmarks.bench_scale", "--driver-only", "--clips", str(clips)]
        out = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8").stdout
        result["driver"].append(json.loads(out.splitlines()[-1]))
    if arguments.audio:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        with tempfile.TemporaryDirectory() as name:
            audio = convert_to_wav(arguments.audio, Path(name) / "wav", arguments.repeat)
            rates = {str(nodes): cluster_rate(audio, nodes) for nodes in arguments.nodes}
        rate_per_node = rates[str(arguments.nodes[0])] / arguments.nodes[0]
        result["nodes"] = {
            nodes: {"clips_per_second": rate, "scaling_efficiency": rate / (rate_per_node * int(nodes))}
            for nodes, rate in rates.items()
        }
    save_result("scale", result)


if __name__ == "__main__":
    main()
