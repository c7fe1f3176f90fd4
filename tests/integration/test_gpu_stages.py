"""Prediction and generation distributed as with GPUs; these are fake, and the networks compute on CPUs."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch

from models.gan import GanConfig, Generator
from pipeline.classifier.predict import PredictConfig, plan_job, read_audio
from pipeline.classifier.prediction.merge import merge_predictions
from pipeline.classifier.prediction.stages import Predictor, SpectrogramReader
from pipeline.classifier.submission.plan import plan_submission
from pipeline.distributed.batch_job import run_in_process
from pipeline.distributed.devices import worker_device
from pipeline.distributed.ray_runner import RayRunner
from pipeline.gan.config import GenerateConfig
from pipeline.gan.generate import generate, generate_on_cluster
from pipeline.io.errors import UserError
from pipeline.training.model_file import GeneratorMetadata, save_model
from tests.helpers.saved_classifier import save_classifier
from tests.helpers.sounds import SMALL_FEATURES, write_tones
from tests.integration.test_devices import without_gpu

on_cpu = partial(worker_device, 0.0)
pytestmark = [pytest.mark.usefixtures("one_gpu"), pytest.mark.timeout(240)]


@pytest.fixture
def gan(tmp_path: Path) -> Path:
    """Run of an untrained generator."""
    config, names = GanConfig(channels=(8, 16)), ("noise", "whale")
    torch.manual_seed(0)
    model = Generator(config, SMALL_FEATURES.shape, len(names))
    run = tmp_path / "gan"
    run.mkdir()
    save_model(
        run, model, GeneratorMetadata(model=config, features=SMALL_FEATURES, class_names=names, training={})
    )
    return run


def test_prediction_reads_clips_outside_of_gpu_worker(tmp_path: Path) -> None:
    data, run = write_tones(tmp_path / "data", clips=30), save_classifier(tmp_path / "run")
    tables, names = [], ("noise", "whale")
    for name, runner in (("process", run_in_process), ("gpu", RayRunner(gpus=1))):
        config = PredictConfig(run=run, audio=(data,), out=tmp_path / name)
        clips = read_audio(config.audio).clips
        job = plan_job(config, clips, gpus=1)
        job.run(
            [partial(SpectrogramReader, SMALL_FEATURES, 1), partial(Predictor, run, 1, "fp32", on_cpu)],
            runner,
        )
        merge_predictions(job.units, config.out, plan_submission(None, clips, names), names)
        tables.append(pd.read_parquet(config.out / "predictions.parquet"))
    assert len(job.units) == 3
    pd.testing.assert_frame_equal(tables[1], tables[0])


@pytest.mark.parametrize("as_shards", [pytest.param(False, marks=pytest.mark.slow), True])
def test_clips_are_written_outside_of_gpu_worker(as_shards: bool, gan: Path, tmp_path: Path) -> None:
    settings = {"run": gan, "count": 12, "iterations": 2, "as_shards": as_shards}
    generate(GenerateConfig(**settings, out=tmp_path / "process"))
    config = GenerateConfig(**settings, out=tmp_path / "gpu")
    generate(config, RayRunner(gpus=1, gpu_stage=0), on_cpu)
    names = [
        sorted(path.relative_to(tmp_path / out) for path in (tmp_path / out).rglob("*.*") if path.is_file())
        for out in ("process", "gpu")
    ]
    assert names[0] == names[1] and len(names[0]) >= 4
    for name in names[0]:
        assert (tmp_path / "gpu" / name).read_bytes() == (tmp_path / "process" / name).read_bytes()


@without_gpu
def test_gpu_that_torch_lacks_is_reported(gan: Path, tmp_path: Path) -> None:
    config = GenerateConfig(run=gan, out=tmp_path / "out", count=8, device="cuda")
    with pytest.raises(UserError, match=r"^a worker on .* has 1 GPU of Ray, but torch .*: use --device cpu$"):
        generate_on_cluster(config)
