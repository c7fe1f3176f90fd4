"""Planning of extractions: files in a bucket, and a second extraction of a dataset that has not changed.

    python -m benchmarks.bench_planning [--objects 100000] [--latency 0.03] [--clips 1000000]

1. Clips of a bucket on a local S3 server that adds --latency seconds to each request: a folder of --objects
   files in ten classes, a table of their URIs, a table of relative names without endings in a thousand
   folders, and a folder of files without ending (a tenth of --objects), whose first bytes are read.
2. `extract` of a table of --clips local files whose shards are up to date, in a process of its own, and its
   parts. The files are hard links, and nothing is decoded: shards with all columns but tiny spectrograms are
   written first, in this process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.bench_scale import TINY, planning_seconds, write_empty_shards
from benchmarks.common import save_result, timed, write_clip_list, write_links
from pipeline.data.footer_file import FooterFile
from pipeline.data.manifest import read_manifest
from pipeline.distributed.batch_job import StageBuilder, UnitResult
from pipeline.distributed.work_unit import WorkUnit
from pipeline.extract import ExtractConfig, extract
from pipeline.io.remote_path import RemotePath
from tests.helpers.s3_server import S3Server, s3_server

CLASSES, FOLDERS = 10, 1000


def remote_metrics(objects: int, latency_s: float) -> dict[str, Any]:
    """Measure the seconds and requests that reading the clips of a bucket takes."""
    with tempfile.TemporaryDirectory() as name, s3_server() as server:
        folder = Path(name)
        classes = [f"classes/class {i % CLASSES}/clip_{i:08d}.wav" for i in range(objects)]
        folders = [f"folders/{i % FOLDERS:03d}/clip_{i:08d}" for i in range(objects)]
        unnamed = [f"unnamed/class {i % CLASSES}/clip_{i:08d}" for i in range(objects // 10)]
        write_links(folder, [*classes, *(f"{file}.ogg" for file in folders), *unnamed])
        bucket = server.bucket("sounds", folder)
        tables = {
            "uris": write_table(folder / "uris.csv", (str(bucket / file) for file in classes)),
            "names": write_table(folder / "names.csv", folders),
        }
        for path in tables.values():
            (bucket / path.name).write_bytes(path.read_bytes())
        server.configure(latency_s=latency_s)
        sources = {
            "folder": bucket / "classes",
            "table of URIs": tables["uris"],
            "table of names without endings": bucket / "names.csv",
            "files without ending": bucket / "unnamed",
        }
        return {title: read_counted(server, source) for title, source in sources.items()}


def write_table(path: Path, names: Iterable[str]) -> Path:
    """Write a table of clips in some classes."""
    rows = (f"{name},class {index % CLASSES}\n" for index, name in enumerate(names))
    path.write_text("path,label\n" + "".join(rows), encoding="utf-8")
    return path


def read_counted(server: S3Server, source: Path | RemotePath) -> dict[str, Any]:
    """Measure one source of clips."""
    server.reset()
    start_time, start_cpu, start_server = time.perf_counter(), time.process_time(), server.cpu_seconds()
    clips = read_manifest(source).clips  # type: ignore[arg-type]
    seconds = time.perf_counter() - start_time
    assert (clips["size"] > 0).all()
    return {
        "clips": len(clips),
        "seconds": seconds,
        "cpu_seconds": time.process_time() - start_cpu,
        "server_cpu_seconds": server.cpu_seconds() - start_server,
        "requests": dict(server.requests()),
    }


def repeated_extraction_metrics(clips: int) -> dict[str, float]:
    """Measure the seconds of an extraction that has nothing to do, and its peak memory in MiB."""
    import resource

    def run_never(units: Sequence[WorkUnit], stages: Sequence[StageBuilder]) -> Iterator[UnitResult]:
        raise AssertionError(f"{len(units)} units were run")

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_clip_list(folder / "list.csv", clips)
        config = ExtractConfig(data=folder / "list.csv", out=folder / "out", features=TINY, copies=0)
        subprocess.run(
            [sys.executable, "-m", "benchmarks.bench_planning", "--write-shards", name],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        list_seconds, plan_seconds = planning_seconds(config)
        footer_seconds = timed(lambda: FooterFile(config.out).read())
        total_seconds = timed(lambda: extract(config, run_never))
        shards = len(list(config.out.glob("part-*")))
        (config.out / "_footers.parquet").unlink()
        return {
            "clips": clips,
            "shards": shards,
            "seconds": total_seconds,
            "list_seconds": list_seconds,
            "plan_seconds": plan_seconds,
            "footer_seconds": footer_seconds,
            "seconds_without_footer_file": timed(lambda: extract(config, run_never)),
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("--latency", type=float, default=0.03, help="seconds per request")
    parser.add_argument("--clips", type=int, default=1_000_000)
    parser.add_argument("--write-shards", type=Path, help="only write the shards of FOLDER/list.csv")
    parser.add_argument("--repeated-only", action="store_true", help="print the second part only")
    arguments = parser.parse_args()
    if folder := arguments.write_shards:
        config = ExtractConfig(data=folder / "list.csv", out=folder / "out", features=TINY, copies=0)
        extract(config, write_empty_shards)
        return
    if arguments.repeated_only:
        print(json.dumps(repeated_extraction_metrics(arguments.clips)))
        return
    result: dict[str, Any] = {}
    if arguments.objects:
        result["bucket"] = remote_metrics(arguments.objects, arguments.latency)
    if arguments.clips:
        # In a separate process, whose peak memory is measured.
        command = [sys.executable, "-m", "benchmarks.bench_planning", "--repeated-only"]
        command += ["--clips", str(arguments.clips)]
        out = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8").stdout
        result["repeated_extraction"] = json.loads(out.splitlines()[-1])
    save_result("planning", result)


if __name__ == "__main__":
    main()
