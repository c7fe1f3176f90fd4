"""Generation, evaluation and samples on another device: as on the CPU, but for rounding errors."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from pipeline.data.dataset import open_dataset
from pipeline.data.identify import identify
from pipeline.distributed.batch_job import StageBuilder, UnitResult, run_in_process
from pipeline.distributed.work_unit import WorkUnit
from pipeline.extract import extract
from pipeline.gan import train_reference_classifier
from pipeline.gan.config import GenerateConfig, TrainGanConfig
from pipeline.gan.evaluate import evaluate_gan
from pipeline.gan.generate import generate
from pipeline.gan.loop import train_loop
from pipeline.gan.snapshots import SnapshotWriter
from pipeline.gan.train_reference_classifier import get_reference_classifier
from pipeline.training.model_file import load_generator
from pipeline.training.run import load_run_data
from pipeline.training.run_folder import RunFolder
from tests.helpers.runs import SINGLE_WORKER
from tests.helpers.simulated_device import DEVICE, simulated_device
from tests.helpers.sounds import SMALL_FEATURES, extract_config, gan_config, write_tones

CPU = torch.device("cpu")
# Windows that overlap by half, which resynthesis needs.
FEATURES = SMALL_FEATURES.model_copy(
    update={"mel": SMALL_FEATURES.mel.model_copy(update={"hop_length": 128})}
)


@pytest.fixture(scope="module")
def gan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run of a GAN trained for a few steps, with both reference classifiers."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("gan")
    data = write_tones(folder / "data", clips=6)
    extract(extract_config(data, folder / "shards", copies=0, features=FEATURES), run_in_process)
    config = gan_config(folder / "shards", folder / "run", epochs=1, epoch_steps=10, fold=1, select_best=True)
    RunFolder(config.run).begin("train-gan", config.identity(), config.shards, [identify(config.shards)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_reference_classifier, "EPOCHS", 2)
        get_reference_classifier(config, "selection")
        get_reference_classifier(config, "evaluation")
    train_loop(config, SINGLE_WORKER)
    return config.run


def assert_same_audio(actual: Path, expected: Path) -> None:
    """Check that two folders have the same audio files, with equal samples but for 16-bit rounding."""
    names = [
        sorted(path.relative_to(folder) for path in folder.rglob("*.wav")) for folder in (actual, expected)
    ]
    assert names[0] == names[1] and names[0]
    for name in names[0]:
        samples, reference = (soundfile.read(folder / name)[0] for folder in (actual, expected))
        np.testing.assert_allclose(samples, reference, atol=1e-3)


def test_device_generates_clips_of_cpu(gan: Path, tmp_path: Path) -> None:
    settings = {"run": gan, "count": 4, "min_confidence": 0.34, "iterations": 8}
    expected = generate(GenerateConfig(**settings, out=tmp_path / "cpu"))
    with simulated_device():
        actual = generate(GenerateConfig(**settings, out=tmp_path / "device"), choose_device=lambda: DEVICE)
    pd.testing.assert_frame_equal(actual, expected, atol=1e-3)
    assert expected["attempts"].nunique() > 1, "some clips are accepted before others"
    assert_same_audio(tmp_path / "device", tmp_path / "cpu")


def test_device_generates_shards_of_cpu(gan: Path, tmp_path: Path) -> None:
    settings = {"run": gan, "count": 3, "as_shards": True, "interpolate_to": 9}
    generate(GenerateConfig(**settings, out=tmp_path / "cpu"))
    with simulated_device():
        generate(GenerateConfig(**settings, out=tmp_path / "device"), choose_device=lambda: DEVICE)
    actual, expected = (open_dataset(tmp_path / name) for name in ("device", "cpu"))
    pd.testing.assert_frame_equal(actual.table, expected.table)
    np.testing.assert_allclose(np.asarray(actual.mels), np.asarray(expected.mels), atol=0.1)


def test_interrupted_generation_resumes_on_other_device(gan: Path, tmp_path: Path) -> None:
    config = GenerateConfig(run=gan, out=tmp_path, count=6, iterations=1)

    def interrupted(units: Sequence[WorkUnit], stages: Sequence[StageBuilder]) -> Iterator[UnitResult]:
        yield from run_in_process(units[:1], stages)
        raise KeyboardInterrupt

    with simulated_device(), pytest.raises(KeyboardInterrupt):
        generate(config, interrupted, lambda: DEVICE)
    first = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.wav")}
    assert len(first) == 16
    assert len(generate(config)) == 18
    assert all(path.stat().st_mtime_ns == time for path, time in first.items())


@pytest.mark.slow
def test_device_gives_metrics_of_cpu(gan: Path, tmp_path: Path) -> None:
    expected = evaluate_gan(gan, 3, tmp_path / "cpu")
    with simulated_device():
        actual = evaluate_gan(gan, 3, tmp_path / "device", DEVICE)
    assert actual["confusion"] == expected["confusion"]
    for name in ("generated", "untrained", "real"):
        assert actual["frechet"][name] == pytest.approx(expected["frechet"][name], rel=0.02)
    assert (tmp_path / "device" / "report.html").is_file()


def test_device_writes_samples_of_cpu(gan: Path, tmp_path: Path) -> None:
    saved = load_generator(gan)
    config, dataset, split = load_run_data(gan, TrainGanConfig)
    scores, diversity = [], []
    for name, device in (("cpu", CPU), ("device", DEVICE)):
        run = tmp_path / name
        shutil.copytree(gan / "reference_classifiers", run / "reference_classifiers")
        writer = SnapshotWriter(config.model_copy(update={"run": run}), dataset, split, {0: 9, 1: 9, 2: 9})
        with simulated_device():
            scores.append(writer.write(saved.model.to(device), 1, device))
            diversity.append(writer.diversity(saved.model, device))
    assert scores[0].keys() == {"class_accuracy", "frechet"}
    assert scores[1] == pytest.approx(scores[0], rel=1e-3)
    assert diversity[1] == pytest.approx(diversity[0], rel=1e-3)
    assert_same_audio(tmp_path / "device", tmp_path / "cpu")
