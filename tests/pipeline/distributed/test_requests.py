"""Requests of batch jobs to an object store: one per clip, and a fixed number per work unit and per job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from models.gan import GanConfig, Generator
from pipeline.classifier.predict import PredictConfig, write_predictions
from pipeline.distributed.attempts import counted_attempt
from pipeline.distributed.batch_job import StageBuilder, UnitResult, run_stages
from pipeline.distributed.work_unit import WorkUnit
from pipeline.extract import extract
from pipeline.gan.config import GenerateConfig
from pipeline.gan.generate import generate
from pipeline.io import folder_lock
from pipeline.training.model_file import GeneratorMetadata, save_model
from tests.helpers.processes import wait_until
from tests.helpers.s3_server import S3Server, s3_server
from tests.helpers.saved_classifier import save_classifier
from tests.helpers.sounds import SMALL_FEATURES, extract_config, write_tones

NAMES = ("noise", "whale")


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder_lock, "HEARTBEAT_S", 1000.0)  # renewals of the lock are requests too
        yield server


class CountingRunner:
    """Runs units as workers do, and counts the requests of units and those before them."""

    def __init__(self, server: S3Server, deletions: int = 1) -> None:
        """Take the number of deletions of a unit, of which the last one ends in the background."""
        self._server, self._deletions = server, deletions
        self.num_units = 0
        self.before: Counter[str] = Counter()
        self.of_units: Counter[str] = Counter()

    def __call__(self, units: Sequence[WorkUnit], stages: Sequence[StageBuilder]) -> Iterator[UnitResult]:
        self.before, self.num_units = self._take(), len(units)
        built = [build() for build in stages]
        self._take()
        for unit in units:
            yield run_stages(unit, lambda: built, attempt=counted_attempt(unit, "use less memory"))
        wait_until(lambda: self._server.requests()["DELETE many"] >= self._deletions * len(units))
        self.of_units = self._take()

    def _take(self) -> Counter[str]:
        requests = self._server.requests()
        self._server.reset()
        return requests


def count(server: S3Server, work: Callable[[CountingRunner], Any]) -> tuple[CountingRunner, Counter[str]]:
    """Return the runner of a job, and the requests before and after its units."""
    server.reset()
    runner = CountingRunner(server)
    work(runner)
    return runner, runner.before + server.requests()


@pytest.mark.parametrize("clips", [10, 40])
def test_extraction_reads_each_clip_once(clips: int, server: S3Server, tmp_path: Path) -> None:
    data = server.bucket(f"data-{clips}", write_tones(tmp_path, clips=clips))
    config = extract_config(data, server.bucket("results") / f"extraction-{clips}")
    runner, others = count(server, lambda runner: extract(config, runner))
    units = runner.num_units
    # Besides the clips: list of clips and record of the attempt before; record of this one and the shard.
    assert runner.of_units == {"GET": 3 * clips + 2 * units, "PUT": 2 * units, "DELETE many": units}
    assert others.total() <= 40


@pytest.mark.parametrize("clips", [10, 40])
def test_prediction_reads_each_clip_once(clips: int, server: S3Server, tmp_path: Path) -> None:
    audio = server.bucket(f"audio-{clips}", write_tones(tmp_path, clips=clips))
    out = server.bucket("results") / f"prediction-{clips}"
    config = PredictConfig(run=save_classifier(tmp_path / "run"), audio=audio, out=out)
    runner, others = count(server, lambda runner: write_predictions(config, runner))
    units = runner.num_units
    assert runner.of_units == {"GET": 3 * clips + 2 * units, "PUT": 2 * units, "DELETE many": units}
    assert others.total() <= 40 + units  # the tables of units, read to be merged


@pytest.mark.parametrize("as_shards", [False, True])
def test_generation_writes_each_file_once(as_shards: bool, server: S3Server, tmp_path: Path) -> None:
    config, metadata = GanConfig(channels=(8, 16)), {"features": SMALL_FEATURES, "class_names": NAMES}
    torch.manual_seed(0)
    model = Generator(config, SMALL_FEATURES.shape, len(NAMES))
    (tmp_path / "gan").mkdir()
    save_model(tmp_path / "gan", model, GeneratorMetadata(model=config, training={}, **metadata))
    out = server.bucket("results") / f"generation-{as_shards}"
    generation = GenerateConfig(run=tmp_path / "gan", out=out, count=2, iterations=1, as_shards=as_shards)
    runner, others = count(server, lambda runner: generate(generation, runner))
    units = runner.num_units
    files = units if as_shards else 2 * 4  # audio and image
    assert runner.of_units == {"GET": 2 * units, "PUT": 2 * units + files, "DELETE many": units}
    assert others.total() <= 40 + (2 if as_shards else 1) * units
