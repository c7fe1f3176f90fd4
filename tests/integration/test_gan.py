"""The GAN on a cluster: workers and drivers may die, the generator is that of an undisturbed run; and the way from shards to sounds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pandas as pd
import pytest
import torch

from pipeline.gan import train_reference_classifier as judge
from pipeline.gan.config import TrainGanConfig
from pipeline.gan.generate import GenerateConfig, generate, run_units
from pipeline.gan.loop import train_loop
from pipeline.gan.train import train_gan
from pipeline.io.errors import UserError
from pipeline.training.checkpoint import load_tensors
from pipeline.training.run_folder import RunFolder
from pipeline.training.world import World
from tests.helpers.processes import kill, kill_worker, later, run, start, wait_for
from tests.helpers.sounds import gan_config, write_shards

# Slow enough on any machine for a fault to fall into the middle of an epoch.
SLOW: dict[str, object] = {"epochs": 6, "epoch_steps": 25, "sample_every": 6}
SLOW_FLAGS = (
    "--epochs 6 --epoch-steps 25 --sample-every 6 --batch-size 8 --samples-per-class 2 --no-select-best --precision fp32 --cpus-per-worker 1 "
    "--gan.latent-dim 8 --gan.style-dim 16 --gan.channels 8 16 --gan.patch 4"
).split()


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("tones"))


@pytest.fixture(scope="module")
def undisturbed(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    config = gan_config(shards, tmp_path_factory.mktemp("undisturbed"), **SLOW)
    torch.set_num_threads(1)
    train_loop(config, World(0, 1, torch.device("cpu")))
    return load_tensors(config.run / "model.safetensors")[0]


def assert_same(run_folder: Path, expected: dict[str, torch.Tensor]) -> None:
    found = load_tensors(run_folder / "model.safetensors")[0]
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert [line["epoch"] for line in RunFolder(run_folder).read_history()] == [1, 2, 3, 4, 5, 6]


def kill_a_worker_after(config: TrainGanConfig, epochs: int) -> Future[int]:
    name = "training" if config.workers == 1 else "RayTrainWorker"
    return later(lambda: len(RunFolder(config.run).read_history()) == epochs, lambda: kill_worker(name, -1))


@pytest.mark.usefixtures("ray_session")
class TestInOneSession:
    def test_a_worker_killed_in_an_epoch_changes_nothing(
        self, shards: Path, tmp_path: Path, undisturbed: dict[str, torch.Tensor]
    ) -> None:
        config = gan_config(shards, tmp_path / "run", cpus_per_worker=1, **SLOW)
        killed = kill_a_worker_after(config, 2)
        train_gan(config)
        assert killed.result()
        assert_same(config.run, undisturbed)
        assert (config.run / "report.html").is_file() and (config.run / "samples" / "progress.gif").is_file()

    @pytest.mark.slow
    def test_two_workers_go_on_after_one_is_killed(self, shards: Path, tmp_path: Path) -> None:
        config = gan_config(shards, tmp_path / "run", workers=2, **SLOW)
        killed = kill_a_worker_after(config, 2)
        summary = train_gan(config)
        assert killed.result()
        assert summary["epochs"] == 6
        assert [line["epoch"] for line in RunFolder(config.run).read_history()] == [1, 2, 3, 4, 5, 6]

    def test_a_users_fault_in_a_worker_is_one_line(self, shards: Path, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"--fold 9: no clip of that fold"):
            train_gan(gan_config(shards, tmp_path / "run", fold=9, workers=2))

    @pytest.fixture(scope="class")
    def judged(self, shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
        """A GAN with its judge."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(judge, "EPOCHS", 8)
            config = gan_config(
                shards,
                tmp_path_factory.mktemp("judged"),
                select_best=True,
                epochs=2,
                epoch_steps=50,
                penalty_weight=1.0,
            )
            train_gan(config)
        yield config.run

    def test_the_judge_chooses_the_best_epoch(self, judged: Path, shards: Path) -> None:
        history = RunFolder(judged).read_history()
        best = min(history, key=lambda line: line["frechet"])
        summary = RunFolder(judged).read_json("summary.json")
        assert summary["best_epoch"] == best["epoch"] and summary["frechet"] == best["frechet"]
        # The one that scores has no part in the training.
        assert [path.name for path in (judged / "reference_classifiers").iterdir()] == ["selection"]

    def test_actors_draw_the_files_that_one_process_draws(self, judged: Path, tmp_path: Path) -> None:
        for name, runner in (("here", None), ("there", run_units)):
            generate(GenerateConfig(run=judged, out=tmp_path / name, count=12), runner)
        digests = [
            {
                str(p.relative_to(tmp_path / name)): hashlib.sha256(p.read_bytes()).hexdigest()
                for p in (tmp_path / name).rglob("*.*")
                if p.is_file()
            }
            for name in ("here", "there")
        ]
        assert digests[0] == digests[1] and len(digests[0]) == 2 * 36 + 1

    @pytest.mark.slow
    def test_a_drawing_actor_killed_in_between_changes_nothing(self, judged: Path, tmp_path: Path) -> None:
        killed = later(lambda: any((tmp_path / "out").rglob("*.wav")), lambda: kill_worker("Drawer"))
        table = generate(
            GenerateConfig(run=judged, out=tmp_path / "out", count=60, iterations=200), run_units
        )
        assert killed.result()
        assert len(table) == 180 and table["clip_id"].is_unique
        assert len(list((tmp_path / "out").rglob("*.wav"))) == 180

    def test_more_drawing_actors_than_cpus_are_refused_at_once(self, judged: Path, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="needs 5 workers with 1 CPU each; the cluster has room for 2"):
            generate(GenerateConfig(run=judged, out=tmp_path / "out", workers=5), run_units)


@pytest.mark.slow
def test_a_killed_driver_started_again_ends_with_the_same_weights(
    shards: Path, tmp_path: Path, undisturbed: dict[str, torch.Tensor]
) -> None:
    folder = tmp_path / "run"
    command = ("train-gan", "--shards", shards, "--run", folder, *SLOW_FLAGS, "--cpus", 2)
    driver = start(*command, log=tmp_path / "log")
    wait_for(lambda: len(RunFolder(folder).read_history()) == 2)
    kill(driver)
    assert not (folder / "summary.json").exists()
    again = run(*command)
    assert again.returncode == 0, again.stderr
    assert "going on after epoch" in again.stdout and "diversity" in again.stderr
    assert_same(folder, undisturbed)


@pytest.mark.slow
def test_the_commands_go_from_shards_to_sounds_and_figures(shards: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    flags = [flag if flag != "--no-select-best" else "--select-best" for flag in SLOW_FLAGS]
    trained = run("train-gan", "--shards", shards, "--run", folder, *flags, "--cpus", 2)
    assert trained.returncode == 0, trained.stderr
    for name in ("model.safetensors", "samples", "samples/progress.gif", "report.html"):
        assert str(folder / name) in trained.stdout and (folder / name).exists()
    drawn = run(
        "generate",
        "--run",
        folder,
        "--label",
        "tone 1",
        "--count",
        4,
        "--seed",
        1,
        "--out",
        tmp_path / "sounds",
    )
    assert drawn.returncode == 0, drawn.stderr
    assert pd.read_csv(tmp_path / "sounds" / "generated.csv")["file"].tolist() == [
        f"tone 1/seed_0000{i}.wav" for i in (1, 2, 3, 4)
    ]
    scored = run("evaluate", "--run", folder, "--clips-per-class", 4)
    assert scored.returncode == 0, scored.stderr
    figures = json.loads((folder / "evaluation.json").read_text())
    assert figures["clips"] == 12 and f"{figures['class_accuracy']:.1%} recognised" in scored.stdout
    wrong = run("generate", "--run", folder, "--label", "cat", "--out", tmp_path / "sounds")
    assert wrong.returncode == 2 and wrong.stderr.strip().endswith(
        "--label 'cat': the generator knows tone 0, tone 1, tone 2"
    )
