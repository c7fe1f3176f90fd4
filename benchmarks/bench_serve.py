"""`melray serve` under load by wrk (Debian package wrk), on loopback, against `predict` on the same files.

python -m benchmarks.bench_serve --audio FOLDER_OF_CLASS_FOLDERS --run RUN

Each round predicts all files, in a running session as bench_predict.py does, and then posts them in turn from
concurrent clients. A round takes about a minute on two cores.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.common import convert_to_wav, save_result, summarize, summarize_ratios, timed
from cluster.connection.session import session
from pipeline.classifier.predict import PredictConfig, predict

SCRIPT = Path(__file__).parent / "serve_load.lua"
START_TIMEOUT_S = 300


def predicted_per_second(run: Path, audio: Path, out: Path, clips: int) -> float:
    """Predict all files once; return clips per second."""
    with session():
        config = PredictConfig(run=run, audio=audio, out=out)
        rate = clips / timed(lambda: predict(config))
    shutil.rmtree(out)
    return rate


@contextmanager
def server(run: Path, replicas: int, clients: int, log: Path) -> Iterator[str]:
    """Serve a run within the `with` block; yield the URL."""
    flags = ["--run", run, "--port", 0, "--replicas", replicas, "--max-requests", 2 * clients]
    command = [sys.executable, "-m", "cluster", "serve", *map(str, flags)]
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while "ready" not in log.read_text(encoding="utf-8"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the server did not start:\n{log.read_text(encoding='utf-8')}")
            time.sleep(0.1)
        (line,) = [line for line in log.read_text(encoding="utf-8").splitlines() if line.startswith("page: ")]
        yield line.removeprefix("page: ").rstrip("/")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def load(url: str, files: list[Path], clients: int, seconds: float) -> dict[str, float]:
    """Post files from concurrent clients; return requests per second and latencies in milliseconds."""
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds:g}s", "--timeout", "30s", "-s", SCRIPT]
    output = subprocess.run(
        [*map(str, command), f"{url}/classify", "--", *map(str, files)],
        check=True,
        capture_output=True,
        encoding="utf-8",
    ).stdout
    (line,) = [line for line in output.splitlines() if line.startswith("RESULT ")]
    requests, duration, p50, p95, failed = map(float, line.split()[1:])
    if failed:
        raise SystemExit(f"{failed:g} of {requests:g} requests failed")
    return {"per_second": requests / duration, "p50_ms": p50, "p95_ms": p95}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--audio", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--replicas", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--repeat", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-files", type=int, default=400)
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("needs wrk: apt-get install wrk")
    rates, loads = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        audio = convert_to_wav(arguments.audio, folder / "wav", arguments.repeat)
        paths = sorted(audio.rglob("*.wav"))
        files = paths[:: arguments.repeat][: arguments.max_files]
        for _ in range(arguments.rounds):
            rates.append(predicted_per_second(arguments.run, audio, folder / "out", len(paths)))
            with server(arguments.run, arguments.replicas, arguments.clients, folder / "log") as url:
                load(url, files, arguments.clients, min(5.0, arguments.seconds))  # warm-up
                loads.append(load(url, files, arguments.clients, arguments.seconds))
    result = {
        "clips": len(files),
        "clients": arguments.clients,
        "replicas": arguments.replicas,
        "predict_clips_per_second": summarize(rates),
        "serve_requests_per_second": summarize([values["per_second"] for values in loads]),
        "serve_to_predict": summarize_ratios([values["per_second"] for values in loads], rates),
        "p50_ms": summarize([values["p50_ms"] for values in loads]),
        "p95_ms": summarize([values["p95_ms"] for values in loads]),
    }
    save_result("serve", result)


if __name__ == "__main__":
    main()
