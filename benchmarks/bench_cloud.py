"""Extraction and prediction with all files in an object store, against the same on the local disk.

    python -m benchmarks.bench_cloud --audio FOLDER_OF_CLASS_FOLDERS

The server (`tests/helpers/s3_server.py`) adds a latency to each request. It shares the cores with the work:
a second ratio leaves out the CPU time that it uses, as if it was elsewhere. A third is against the limit: the
time on the local disk and that of one process per core that only reads the clips from the server.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import convert_to_wav, save_result, summarize, timed
from cluster.connection.session import session
from models.classifier import Classifier, ClassifierConfig
from pipeline.audio.clip_files import FetchedFile
from pipeline.audio.features import FeatureConfig
from pipeline.classifier.predict import PredictConfig, write_predictions
from pipeline.extract import ExtractConfig, extract
from pipeline.io.concurrent import map_concurrently
from pipeline.training.model_file import ClassifierMetadata, save_model
from tests.helpers.s3_server import S3Server, s3_server

CORES = os.cpu_count() or 1
LATENCY_S = 0.03
# A work command: reads a folder of clips and writes to another.
Command = Callable[[Any, Any], Any]


def save_untrained_classifier(run: Path, class_names: list[str]) -> Path:
    """Save a classifier of default size; its speed does not depend on its weights."""
    features, config = FeatureConfig(), ClassifierConfig()
    run.mkdir()
    model = Classifier(config, features.mel.n_mels, len(class_names))
    training = {"class_counts": dict.fromkeys(class_names, 1)}
    metadata = ClassifierMetadata(
        model=config, features=features, class_names=tuple(class_names), training=training
    )
    save_model(run, model, metadata)
    return run


def limited_folder(source: Path, out: Path, clips: int) -> Path:
    """Link `clips` files of a folder of class folders, evenly spread, to another folder."""
    paths = sorted(source.rglob("*.wav"))
    for path in paths[:: max(1, len(paths) // clips)][:clips]:
        (out / path.parent.name).mkdir(parents=True, exist_ok=True)
        os.link(path, out / path.parent.name / path.name)
    return out


def read_files(uris: Sequence[str]) -> None:
    """Read files of an object store as workers do, and drop them."""
    deque(map_concurrently(FetchedFile.fetch, uris), maxlen=0)


class Reader:
    """Reads all clips of a bucket by one process per core, without any work on them."""

    def __init__(self, remote: Any):
        self._uris = sorted(map(str, remote.glob("*/*.wav")))
        self._pool = multiprocessing.get_context("spawn").Pool(CORES)
        self()  # starts the processes and their connections

    def __call__(self) -> None:
        """Read all clips once."""
        self._pool.map(read_files, [self._uris[first::CORES] for first in range(CORES)], chunksize=1)

    def close(self) -> None:
        """End the processes."""
        self._pool.terminate()
        self._pool.join()


class Rounds:
    """Seconds of a command on both storages, and of a reader, in alternating rounds."""

    def __init__(
        self,
        command: Command,
        server: S3Server,
        local: Path,
        remote: Any,
        folder: Path,
        clips: int,
        reader: Reader,
    ):
        self._command, self._server, self._clips, self._reader = command, server, clips, reader
        self._local, self._remote, self._folder = local, remote, folder
        names = ("local", "store", "store_server_cpu", "reading")
        self._seconds: dict[str, list[float]] = {name: [] for name in names}
        self._requests: Counter[str] = Counter()

    def run(self, number: int) -> None:
        """Run the command on both storages, and the reader; in another order in every second round."""
        steps = [self._run_local, self._run_in_store, self._run_reader]
        for step in steps if number % 2 == 0 else reversed(steps):
            step(number)

    def _run_local(self, number: int) -> None:
        out = self._folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        self._seconds["local"].append(timed(lambda: self._command(self._local, out)))

    def _run_in_store(self, number: int) -> None:
        out = self._server.bucket("results") / f"{self._command.__name__}-{number}"
        self._server.reset()
        cpu_seconds = self._server.cpu_seconds()
        self._seconds["store"].append(timed(lambda: self._command(self._remote, out)))
        self._seconds["store_server_cpu"].append(self._server.cpu_seconds() - cpu_seconds)
        self._requests = self._server.requests()

    def _run_reader(self, number: int) -> None:
        self._seconds["reading"].append(timed(self._reader))

    def result(self) -> dict[str, Any]:
        """Return seconds, requests and ratios of the speed in the bucket to that on disk."""
        rounds = list(zip(*self._seconds.values(), strict=True))
        return {
            "clips": self._clips,
            "requests": dict(self._requests),
            "requests_per_clip": sum(self._requests.values()) / self._clips,
            **{f"{name}_seconds": summarize(values) for name, values in self._seconds.items()},
            "store_to_local": summarize([local / store for local, store, *_ in rounds]),
            "store_to_local_without_server": summarize(
                [local / (store - server / CORES) for local, store, server, _ in rounds]
            ),
            "limit_to_local": summarize([local / (local + reading) for local, *_, reading in rounds]),
            "store_to_limit": summarize([(local + reading) / store for local, store, _, reading in rounds]),
        }


@contextmanager
def prepared(arguments: argparse.Namespace) -> Iterator[tuple[S3Server, Path, Any, Path]]:
    """Provide a server, the clips on disk and in a bucket, and a folder for results."""
    with tempfile.TemporaryDirectory() as name, s3_server(arguments.latency) as server:
        folder = Path(name)
        wav = convert_to_wav(arguments.audio, folder / "wav", arguments.repeat)
        local = limited_folder(wav, folder / "clips", arguments.clips)
        with session():
            yield server, local, server.bucket("clips", local), folder


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--audio", type=Path, required=True)
    parser.add_argument("--run", type=Path, help="trained classifier (default: an untrained one)")
    parser.add_argument("--clips", type=int, default=4000)
    parser.add_argument("--repeat", type=int, default=10, help="copies of each file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency", type=float, default=LATENCY_S, help="seconds of each request")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    result: dict[str, Any] = {"latency_s": arguments.latency, "cores": CORES}
    with prepared(arguments) as (server, local, remote, folder):
        class_names = sorted(path.name for path in local.iterdir())
        run = arguments.run or save_untrained_classifier(folder / "run", class_names)
        clips = sum(1 for _ in local.rglob("*.wav"))

        def extraction(data: Any, out: Any) -> None:
            extract(ExtractConfig(data=data, out=out, copies=0))

        def prediction(data: Any, out: Any) -> None:
            write_predictions(PredictConfig(run=run, audio=data, out=out))

        reader = Reader(remote)
        for command in (extraction, prediction):
            rounds = Rounds(command, server, local, remote, folder, clips, reader)
            # Starts the worker processes, of which the second command has more.
            command(local, folder / f"warm-{command.__name__}")
            command(remote, server.bucket("warm") / command.__name__)
            for number in range(arguments.rounds):
                rounds.run(number)
            result[command.__name__] = rounds.result()
        reader.close()
    save_result("cloud", result)


if __name__ == "__main__":
    main()
