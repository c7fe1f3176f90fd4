"""GAN on a cluster: runs survive the loss of workers and drivers unchanged; commands from shards to audio."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pandas as pd
import pytest
import torch

from pipeline.gan import train_reference_classifier
from pipeline.gan.config import TrainGanConfig
from pipeline.gan.generate import GenerateConfig, generate, generate_on_cluster
from pipeline.gan.loop import train_loop
from pipeline.gan.train import train_gan
from pipeline.io.errors import UserError
from pipeline.training.run_folder import RunFolder
from pipeline.training.tensor_file import load_tensors
from pipeline.training.world import World
from tests.helpers.local_ray import SharedRay
from tests.helpers.processes import (
    kill_command_when,
    kill_worker,
    run_command,
    run_when,
)
from tests.helpers.sounds import SMALL_NETWORK, gan_config, write_shards

# Slow enough on any hardware that a process is killed in the middle of an epoch.
SLOW: dict[str, object] = {"epochs": 6, "epoch_steps": 25, "sample_every": 6}
SLOW_FLAGS = (
    "--epochs 6 --epoch-steps 25 --sample-every 6 --batch-size 8 --samples-per-class 2 --no-select-best "
    "--precision fp32 --cpus-per-worker 1 "
    "--gan.latent-dim 8 --gan.style-dim 16 --gan.channels 8 16 --gan.patch 4"
).split()


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("tones"))


@pytest.fixture(scope="module")
def expected_weights(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """Weights of the generator of an uninterrupted run."""
    config = gan_config(shards, tmp_path_factory.mktemp("uninterrupted"), **SLOW)
    torch.set_num_threads(1)
    train_loop(config, World(0, 1, torch.device("cpu")))
    return load_tensors(config.run / "model.safetensors")[0]


def epochs_in_log(run: Path) -> list[int]:
    return [metrics["epoch"] for metrics in RunFolder(run).read_history()]


def assert_same_result(run: Path, expected: dict[str, torch.Tensor]) -> None:
    weights = load_tensors(run / "model.safetensors")[0]
    assert all(torch.equal(weights[name], value) for name, value in expected.items())
    assert epochs_in_log(run) == [1, 2, 3, 4, 5, 6]


def kill_worker_after_epoch(config: TrainGanConfig, epoch: int) -> Future[int]:
    name = "training" if config.workers == 1 else "RayTrainWorker"
    return run_when(lambda: len(epochs_in_log(config.run)) == epoch, lambda: kill_worker(name, -1))


@pytest.mark.usefixtures("ray_session")
class TestInOneSession:
    def test_killed_worker_does_not_change_result(
        self, shards: Path, tmp_path: Path, expected_weights: dict[str, torch.Tensor]
    ) -> None:
        config = gan_config(shards, tmp_path / "run", cpus_per_worker=1, **SLOW)
        killed = kill_worker_after_epoch(config, 2)
        train_gan(config)
        assert killed.result()
        assert_same_result(config.run, expected_weights)
        assert (config.run / "report.html").is_file() and (config.run / "samples" / "progress.gif").is_file()

    @pytest.mark.slow
    def test_two_workers_resume_after_one_is_killed(self, shards: Path, tmp_path: Path) -> None:
        config = gan_config(shards, tmp_path / "run", workers=2, **SLOW)
        killed = kill_worker_after_epoch(config, 2)
        summary = train_gan(config)
        assert killed.result()
        assert summary["epochs"] == 6
        assert epochs_in_log(config.run) == [1, 2, 3, 4, 5, 6]

    def test_user_error_in_worker_is_one_line(self, shards: Path, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"--fold 9: fold not found"):
            train_gan(gan_config(shards, tmp_path / "run", fold=9, workers=2))

    @pytest.fixture(scope="class")
    def run_with_classifier(
        self, shards: Path, shared_ray: SharedRay, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[Path]:
        """Run of a GAN with its selection classifier."""
        shared_ray.use(gpus=0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(train_reference_classifier, "EPOCHS", 2)
            patch.setitem(train_reference_classifier.NETWORKS, "selection", SMALL_NETWORK)
            config = gan_config(
                shards,
                tmp_path_factory.mktemp("gan"),
                fold=5,
                select_best=True,
                epochs=2,
                epoch_steps=20,
                sample_every=1,
                penalty_weight=1.0,
            )
            train_gan(config)
        yield config.run

    def test_selection_classifier_selects_best_epoch(self, run_with_classifier: Path) -> None:
        history = RunFolder(run_with_classifier).read_history()
        best = min(history, key=lambda metrics: metrics["frechet"])
        summary = RunFolder(run_with_classifier).read_json("summary.json")
        assert summary["best_epoch"] == best["epoch"] and summary["frechet"] == best["frechet"]
        # The evaluation classifier plays no part in training.
        classifiers = (run_with_classifier / "reference_classifiers").iterdir()
        assert [path.name for path in classifiers] == ["selection"]

    def test_cluster_generates_same_files_as_one_process(
        self, run_with_classifier: Path, tmp_path: Path
    ) -> None:
        for name in ("process", "cluster"):
            config = GenerateConfig(run=run_with_classifier, out=tmp_path / name, count=12)
            (generate_on_cluster if name == "cluster" else generate)(config)
        digests = [
            {
                str(path.relative_to(tmp_path / name)): hashlib.sha256(path.read_bytes()).hexdigest()
                for path in (tmp_path / name).rglob("*.*")
                if path.is_file()
            }
            for name in ("process", "cluster")
        ]
        assert digests[0] == digests[1] and len(digests[0]) == 2 * 36 + 2

    @pytest.mark.slow
    def test_killed_generating_worker_does_not_change_result(
        self, run_with_classifier: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        killed = run_when(lambda: any(out.rglob("*.wav")), lambda: kill_worker("ClipGenerator"))
        config = GenerateConfig(run=run_with_classifier, out=out, count=60, iterations=200)
        table = generate_on_cluster(config)
        assert killed.result()
        assert len(table) == 180 and table["clip_id"].is_unique
        assert len(list(out.rglob("*.wav"))) == 180

    def test_more_generating_workers_than_cpus_are_refused(
        self, run_with_classifier: Path, tmp_path: Path
    ) -> None:
        config = GenerateConfig(run=run_with_classifier, out=tmp_path / "out", workers=5)
        with pytest.raises(UserError, match=r"needs 5 workers with 1 CPU each, but only 2 fit"):
            generate_on_cluster(config)


@pytest.mark.slow
def test_rerun_after_killed_driver_yields_same_weights(
    shards: Path, tmp_path: Path, expected_weights: dict[str, torch.Tensor]
) -> None:
    run = tmp_path / "run"
    command = ("train-gan", "--shards", shards, "--run", run, *SLOW_FLAGS, "--cpus", 2)
    kill_command_when(lambda: len(epochs_in_log(run)) == 2, *command, log=tmp_path / "log")
    assert not (run / "summary.json").exists()
    rerun = run_command(*command)
    assert rerun.returncode == 0, rerun.stderr
    assert "resuming from epoch" in rerun.stderr and "diversity" in rerun.stderr
    assert_same_result(run, expected_weights)


@pytest.mark.slow
def test_commands_from_shards_to_audio_and_metrics(shards: Path, tmp_path: Path) -> None:
    run, sounds = tmp_path / "run", tmp_path / "sounds"
    flags = [flag if flag != "--no-select-best" else "--select-best" for flag in SLOW_FLAGS]
    training = run_command("train-gan", "--shards", shards, "--run", run, *flags, "--cpus", 2)
    assert training.returncode == 0, training.stderr
    for name in ("model.safetensors", "samples", "samples/progress.gif", "report.html"):
        assert str(run / name) in training.stdout and (run / name).exists()
    options = ("--label", "tone 1", "--count", 4, "--seed", 1)
    generation = run_command("generate", "--run", run, *options, "--out", sounds)
    assert generation.returncode == 0, generation.stderr
    assert pd.read_csv(sounds / "generated.csv")["file"].tolist() == [
        f"tone 1/seed_0000{i}.wav" for i in (1, 2, 3, 4)
    ]
    evaluation = run_command("evaluate", "--run", run, "--clips-per-class", 4)
    assert evaluation.returncode == 0, evaluation.stderr
    metrics = json.loads((run / "evaluation.json").read_text())
    assert metrics["clips"] == 12
    assert f"class accuracy {metrics['class_accuracy']:.1%}" in evaluation.stdout
    unknown_class = run_command("generate", "--run", run, "--label", "cat", "--out", sounds)
    assert unknown_class.returncode == 2
    message = unknown_class.stderr.strip().splitlines()[-1]
    assert "--label 'cat'" in message and message.endswith("'tone 0', 'tone 1', 'tone 2'")
