"""Requests to an object store: melray's paths against other clients, at a latency of 30 ms per request.

    python -m benchmarks.bench_object_store --objects 500 --size 441000

The server (`tests/helpers/s3_server.py`) runs on the same cores. CPU times are those of the client alone.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from benchmarks.common import save_result
from tests.helpers.s3_server import S3Server, s3_server

LATENCY_S, THREADS = 0.03, 32


class Client(NamedTuple):
    """Functions of a client, on keys of one bucket."""

    put: Callable[[str, bytes], Any]
    get: Callable[[str], bytes]
    count: Callable[[], int]


def melray_client(server: S3Server) -> Client:
    """Paths of melray, by obstore."""
    bucket = server.bucket()
    return Client(
        lambda key, data: (bucket / key).write_bytes(data),
        lambda key: (bucket / key).read_bytes(),
        lambda: sum(1 for _ in bucket.walk()),
    )


def pyarrow_client(server: S3Server) -> Client:
    """The S3 client of pyarrow."""
    import pyarrow.fs as fs

    host = server.endpoint.removeprefix("http://")
    filesystem = fs.S3FileSystem(endpoint_override=host, scheme="http", region="us-east-1")

    def put(key: str, data: bytes) -> None:
        with filesystem.open_output_stream(f"sounds/{key}") as stream:
            stream.write(data)

    def get(key: str) -> bytes:
        with filesystem.open_input_file(f"sounds/{key}") as file:
            return file.read()

    return Client(put, get, lambda: len(filesystem.get_file_info(fs.FileSelector("sounds", recursive=True))))


def s3fs_client(server: S3Server) -> Client:
    """The S3 client of fsspec."""
    import s3fs

    filesystem = s3fs.S3FileSystem(
        endpoint_url=server.endpoint, client_kwargs={"region_name": "us-east-1"}, use_listings_cache=False
    )
    return Client(
        lambda key, data: filesystem.pipe_file(f"sounds/{key}", data),
        lambda key: filesystem.cat_file(f"sounds/{key}"),
        lambda: len(filesystem.find("sounds")),
    )


def measure(server: S3Server, client: Client, objects: int, size: int) -> dict[str, Any]:
    """Write, read and list objects; return rates, CPU times per object, and requests."""
    data, keys = os.urandom(size), [f"d/{number:06d}" for number in range(objects)]
    with ThreadPoolExecutor(THREADS) as pool:
        result = {
            "put": _timed(server, objects, lambda: list(pool.map(lambda key: client.put(key, data), keys))),
            "get": _timed(server, objects, lambda: list(pool.map(lambda key: len(client.get(key)), keys))),
        }
    return result | {"list": _timed(server, objects, client.count)}


def _timed(server: S3Server, objects: int, work: Callable[[], Any]) -> dict[str, Any]:
    server.reset()
    start, cpu_start = time.perf_counter(), time.process_time()
    work()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    return {
        "per_s": objects / seconds,
        "cpu_ms": 1000 * cpu / objects,
        "requests": dict(server.requests()),
    }


def main() -> None:
    """Measure all clients that are installed, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=500)
    parser.add_argument("--size", type=int, default=441_000, help="bytes of an object")
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    for name, create in (("melray", melray_client), ("pyarrow", pyarrow_client), ("s3fs", s3fs_client)):
        with s3_server(LATENCY_S) as server:
            server.bucket()
            try:
                client = create(server)
            except ImportError as error:
                print(f"{name}: {error}")
                continue
            results[name] = measure(server, client, arguments.objects, arguments.size)
            print(name, results[name])
    save_result("object_store", {**vars(arguments), "clients": results})


if __name__ == "__main__":
    main()
