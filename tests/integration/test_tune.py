"""Searches on a cluster: results, failures of trials, workers and driver, resuming, nested crossval."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.loop import train_loop
from pipeline.data.dataset import open_dataset
from pipeline.data.split import Split, split_rows
from pipeline.io.errors import UserError
from pipeline.io.storage import to_path
from pipeline.training.model_file import load_classifier, load_generator
from pipeline.training.run_folder import RunFolder
from pipeline.training.world import World
from tests.helpers.processes import (
    kill_command_when,
    kill_worker,
    run_command,
    run_when,
    start_command,
    wait_until,
)
from tests.helpers.s3_server import s3_server
from tests.helpers.sounds import write_shards
from tune.config import SearchConfig
from tune.search import search
from tune.trials import SearchFolder

SPACE = {
    "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "mixup.rate": {"low": 0.0, "high": 1.0},
    "augmentation_strength": {"low": 0.0, "high": 1.0},
}
BASE = {
    "model": {"channels": [8, 16], "convs_per_block": 1, "embedding_dim": 16, "dropout": 0.1},
    "spec_augment": {"roll": 0.1},
    "batch_size": 16,
    "warmup_epochs": 1,
    "ema_decay": 0.9,
    "precision": "fp32",
}
# Slow enough on any host for a failure to be injected in the middle of a trial.
SLOW_BASE = BASE | {
    "model": {"channels": [48, 48], "convs_per_block": 3, "embedding_dim": 16, "dropout": 0.1},
    "patience": 100,  # never stops early
}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("tones"), clips=20, copies=3)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("settings")
    paths = {}
    for name, values in (("space", SPACE), ("base", BASE), ("slow", SLOW_BASE)):
        paths[name] = folder / f"{name}.yaml"
        paths[name].write_text(yaml.safe_dump(values))
    return paths


@pytest.fixture
def config(shards: Path, files: dict[str, Path], tmp_path: Path) -> SearchConfig:
    return SearchConfig(
        shards=shards,
        run=tmp_path / "search",
        space=files["space"],
        base=files["base"],
        trials=3,
        max_epochs=4,
    )


def override(config: SearchConfig, **overrides: object) -> SearchConfig:
    return SearchConfig(**config.model_dump() | overrides)


def scores(folder: Path) -> dict[int, dict[int, float]]:
    """Return scores by trial and epoch; epochs must be consecutive, without duplicates."""
    scores_by_trial: dict[int, dict[int, float]] = {}
    for trial in SearchFolder(folder).read():
        epochs = [point.epoch for point in trial.points]
        assert epochs == list(range(1, len(epochs) + 1))
        scores_by_trial[trial.number] = {point.epoch: point.score for point in trial.points}
    return scores_by_trial


@pytest.mark.usefixtures("ray_session")
class TestInOneSession:
    def test_search_writes_results_and_adds_trials(self, config: SearchConfig) -> None:
        config = override(config, scheduler="none", max_epochs=2)
        summary = search(config)
        assert [trial.state for trial in SearchFolder(config.run).read()] == ["finished"] * 3
        table = pd.read_csv(config.run / "trials.csv")
        assert sorted(table["trial"]) == [0, 1, 2]
        assert table["score"].is_monotonic_decreasing
        assert (table["score"][0], table["trial"][0]) == (summary["score"], summary["trial"])
        assert "learning_rate" in (config.run / "report.html").read_text()
        assert load_classifier(config.run / "best").metadata.training["val_macro_f1"] == summary["score"]
        assert not (config.run / ".tune").exists()
        best = (config.run / "best.yaml").read_text()
        assert "cpus_per_worker: null" not in best
        assert search(config) == summary
        assert (config.run / "best.yaml").read_text() == best
        search(override(config, trials=4))
        assert len(scores(config.run)) == 4
        with pytest.raises(UserError, match=r"contains a search with seed = 42 \(requested 7\)"):
            search(override(config, seed=7))

    @pytest.mark.slow
    def test_best_settings_reproduce_best_score(self, config: SearchConfig, tmp_path: Path) -> None:
        summary = search(override(config, scheduler="none"))
        best = yaml.safe_load((config.run / "best.yaml").read_text())
        settings = TrainClassifierConfig.parse({"shards": config.shards, "run": tmp_path / "again", **best})
        assert settings.identity() == RunFolder(config.run / "best").read_json("config.json")["config"]
        torch.set_num_threads(settings.cpus_per_worker or 1)
        settings.run.mkdir()
        assert train_loop(settings, World(0, 1, torch.device("cpu")))["val_macro_f1"] == summary["score"]

    @pytest.mark.slow
    def test_killed_worker_does_not_change_scores(
        self, config: SearchConfig, files: dict[str, Path], tmp_path: Path
    ) -> None:
        reference = override(
            config, base=files["slow"], trials=2, scheduler="none", run=tmp_path / "reference"
        )
        search(reference)
        disturbed = override(reference, run=tmp_path / "disturbed")
        first = RunFolder(SearchFolder(disturbed.run).trial(0))
        killed = run_when(lambda: len(first.read_history()) == 2, lambda: kill_worker("Trainable"))
        search(disturbed)
        assert killed.result()
        assert scores(disturbed.run) == scores(reference.run)
        assert {trial.state for trial in SearchFolder(disturbed.run).read()} == {"finished"}

    def test_failed_trial_is_recorded_and_others_finish(self, config: SearchConfig, tmp_path: Path) -> None:
        # The strongest augmented copy is NaN: only trials that train on it fail.
        data = write_shards(tmp_path / "tones", clips=10, copies=2)
        dataset = open_dataset(data)
        copies = dataset.table[dataset.table["copy"] > 0].sort_values("strength")
        settings = TrainClassifierConfig(shards=data, run=tmp_path, val_fraction=0.3)
        copies = copies[copies.index.isin(split_rows(dataset, settings).train)]
        strongest = copies.index[-1]
        mels = np.memmap(dataset.mels.filename, np.float16, "r+", shape=dataset.mels.shape)  # type: ignore[arg-type]
        mels[strongest] = np.nan
        mels.flush()
        next(Path(mels.filename).parent.glob("fill.jsonl")).touch()  # as if it had been cached so
        milder = float(copies["strength"].iloc[-2:].mean())
        space = tmp_path / "space.yaml"
        space.write_text(yaml.safe_dump({"augmentation_strength": [0.0, milder, 1.0]}))
        config = override(
            config,
            shards=data,
            space=space,
            trials=6,
            searcher="random",
            max_epochs=2,
            scheduler="none",
            val_fraction=0.3,
        )
        search(config)
        trials = SearchFolder(config.run).read()
        assert len(trials) == 3  # the space has no more
        states: dict[float, set[str]] = {}
        for trial in trials:
            states.setdefault(trial.params["augmentation_strength"], set()).add(trial.state)
        assert states[1.0] == {"failed"}
        assert states[0.0] == states[milder] == {"finished"}
        reason = next(trial.reason for trial in trials if trial.state == "failed")
        assert "the loss is nan in epoch 1: try a lower --learning-rate" in reason
        assert reason in pd.read_csv(config.run / "trials.csv")["reason"].dropna().to_list()

    @pytest.mark.slow
    def test_stopped_trial_of_two_workers_releases_resources(
        self, config: SearchConfig, tmp_path: Path
    ) -> None:
        """Each trial needs all CPUs: one that does not release them would block the search."""
        start = time.monotonic()
        space = tmp_path / "space.yaml"
        space.write_text(yaml.safe_dump({"learning_rate": [2e-3, 1e-6, 2e-6, 3e-6]}))
        search(
            override(
                config,
                space=space,
                workers_per_trial=2,
                trials=4,
                max_epochs=6,
                grace_epochs=3,
                searcher="random",
                reduction_factor=2.0,
            )
        )
        trials = SearchFolder(config.run).read()
        weak = [trial for trial in trials if trial.params["learning_rate"] < 1e-3]
        assert len(weak) == 3
        assert trials[1].state == "stopped"  # a later one may be better than other weak ones
        assert len(trials) == 4
        assert trials[0].state == "finished"
        assert time.monotonic() - start < 100

    @pytest.mark.parametrize(("scheduler", "workers"), [("pbt", 2), ("pb2", 1)])
    @pytest.mark.slow
    def test_population_larger_than_cluster_finishes(
        self, config: SearchConfig, scheduler: str, workers: int
    ) -> None:
        """Trials wait for each other and resume from old checkpoints of donors, which must still exist."""
        self.check_population(override(config, scheduler=scheduler, workers_per_trial=workers))

    @pytest.mark.slow
    def test_population_in_an_object_store_finishes(self, config: SearchConfig) -> None:
        with s3_server() as server:
            server.bucket()
            run = to_path(f"s3://sounds/search?endpoint={server.endpoint}&anonymous=true")
            self.check_population(override(config, scheduler="pbt", run=run))

    def check_population(self, config: SearchConfig) -> None:
        config = override(config, trials=4, max_epochs=8, grace_epochs=2)
        search(config)
        trials = SearchFolder(config.run).read()
        assert [(trial.state, trial.reason) for trial in trials] == [("finished", "")] * 4
        assert all(trial.points[-1].epoch == 8 for trial in trials)
        initial = initial_population(config)
        assert any(trial.params != initial[trial.number] for trial in trials), "no trial copied another one"
        # Each trains a few epochs at a time, so that trials are compared at equal epochs.
        order = [(trial.points[0].elapsed_s, trial.points[-1].elapsed_s) for trial in trials]
        assert max(first for first, _ in order) < min(last for _, last in order)
        assert load_classifier(config.run / "best")
        assert not list(config.run.glob("trials/*/saved_checkpoints"))
        assert not list(config.run.glob("trials/*/checkpoints"))

    def test_insufficient_resources_are_reported_immediately(self, config: SearchConfig) -> None:
        start = time.monotonic()
        with pytest.raises(UserError, match="1 worker with 5 CPUs"):
            search(override(config, cpus_per_worker=5))
        with pytest.raises(UserError, match="3 workers with 1 CPU each"):
            search(override(config, workers_per_trial=3))
        assert time.monotonic() - start < 5

    @pytest.mark.slow
    def test_time_budget_ends_search_which_can_resume(
        self, config: SearchConfig, files: dict[str, Path]
    ) -> None:
        config = override(
            config, base=files["slow"], trials=40, max_epochs=5, scheduler="none", time_budget=0.3
        )
        search(config)
        started = SearchFolder(config.run).read()
        assert 0 < len(started) < 40
        assert (config.run / "best.yaml").is_file()
        scores_before = scores(config.run)
        search(override(config, trials=len(started), time_budget=None))
        resumed = SearchFolder(config.run).read()
        assert [trial.state for trial in resumed] == ["finished"] * len(started)
        scores_after = scores(config.run)
        assert all(scores_after[number].items() >= scores_before[number].items() for number in scores_before)

    def test_resume_needs_an_existing_search(self, config: SearchConfig) -> None:
        with pytest.raises(UserError, match=r"--resume: no search in --run"):
            search(override(config, resume=True))

    def test_folder_of_training_run_is_refused(self, config: SearchConfig) -> None:
        config.run.mkdir()
        (config.run / "config.json").write_text("{}")
        with pytest.raises(UserError, match="contains a training run; choose another --run"):
            search(config)

    def test_search_of_older_format_is_refused(self, config: SearchConfig) -> None:
        config.run.mkdir()
        (config.run / "search.json").write_text('{"command": "tune"}')
        with pytest.raises(UserError, match=r"was written by melray < 0\.2: start a new --run"):
            search(config)


@pytest.mark.slow
def test_nested_crossval_never_trains_on_held_out_fold(config: SearchConfig) -> None:
    completed = run_command(
        *("crossval", "--tuned", "--shards", config.shards, "--run", config.run),
        *("--space", config.space, "--base", config.base, "--num-folds", 2),
        *("--trials", 2, "--max-epochs", 2, "--cpus", 2),
        timeout=170,
    )
    assert completed.returncode == 0, completed.stderr
    assert "tuning gain: " in completed.stdout
    result = RunFolder(config.run).read_json("crossval.json")
    for arm in ("tuned", "base"):
        assert [fold["fold"] for fold in result[arm]["folds"]] == [1, 2]
    dataset = open_dataset(config.shards)

    def split_of(run: Path) -> tuple[dict, Split]:
        settings = RunFolder(run).read_json("config.json")["config"]
        run_config = TrainClassifierConfig(shards=config.shards, run=run, **settings)
        return settings, split_rows(dataset, run_config)

    for fold in (1, 2):
        search_config = SearchFolder(config.run / f"search_{fold}").read_config()
        assert search_config is not None
        assert search_config["base"]["fold"] == fold
        final, final_split = split_of(config.run / f"tuned/fold_{fold}")
        _, trial_split = split_of(config.run / f"search_{fold}/trials/0000")
        assert len(final_split.held_out)
        used = {*final_split.train, *trial_split.train, *trial_split.val}
        assert not set(final_split.held_out) & used
        assert final["keep"] == "last"
        assert final["val_fraction"] == 0


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_gan_trials_share_one_reference_classifier(shards: Path, tmp_path: Path) -> None:
    base, space = tmp_path / "base.yaml", tmp_path / "space.yaml"
    base.write_text(
        "gan: {latent_dim: 8, style_dim: 16, channels: [8, 16], patch: 4}\n"
        "epoch_steps: 3\nbatch_size: 8\nsamples_per_class: 2\nprecision: fp32\n"
    )
    space.write_text("penalty_weight: {low: 0.1, high: 10.0, log: true}\n")
    config = SearchConfig(
        shards=shards,
        run=tmp_path / "search",
        model="gan",
        base=base,
        space=space,
        trials=2,
        max_epochs=2,
        scheduler="none",
    )
    summary = search(config)
    assert summary["metric"] == "frechet"
    assert summary["trials"]["finished"] == 2
    assert load_generator(config.run / "best").metadata.training["frechet"] == summary["score"]
    weights = "reference_classifiers/selection/model.safetensors"
    shared = (config.run / weights).read_bytes()
    assert all((config.run / f"trials/{number:04d}" / weights).read_bytes() == shared for number in range(2))


def initial_population(config: SearchConfig) -> dict[int, dict[str, Any]]:
    """Return the initial hyperparameters of a population by trial number."""
    from tune.schedulers import population_param_space
    from tune.search import make_spec
    from tune.trial.trainable import TRIAL_NUMBER_KEY

    spec = make_spec(config)
    param_space = population_param_space(config, spec.space, spec.space.read(spec.base), [])

    def value(key: str, number: int) -> Any:
        return param_space[key].func({"config": {TRIAL_NUMBER_KEY: number}})

    return {
        number: spec.space.decode({key: value(key, number) for key in spec.space.dimensions})
        for number in range(config.trials)
    }


def tune_command(config: SearchConfig, base: Path) -> list[object]:
    return [
        *("tune", "--shards", config.shards, "--run", config.run, "--space", config.space, "--base", base),
        # One CPU per trial, as in the uninterrupted run: sums of several threads round otherwise.
        *("--trials", 4, "--max-epochs", 6, "--scheduler", "none", "--cpus", 2, "--cpus-per-worker", 1),
    ]


@pytest.mark.slow
def test_search_of_killed_driver_resumes_with_same_scores(
    config: SearchConfig, files: dict[str, Path], tmp_path: Path
) -> None:
    # Random suggestions do not depend on the order in which trials end.
    arguments = [*tune_command(config, files["slow"]), "--searcher", "random"]
    folder = SearchFolder(config.run)
    run = RunFolder(folder.trial(2))
    kill_command_when(lambda: len(run.read_history()) >= 2, *arguments, log=tmp_path / "log", timeout_s=90)
    scores_before = scores(config.run)
    assert {trial.state for trial in folder.read()} == {"finished", "running"}
    completed = run_command(*arguments, "--resume", timeout=110)
    assert completed.returncode == 0, completed.stderr
    assert "resuming: 2 complete, 1 in progress" in completed.stderr
    scores_after = scores(config.run)
    assert sorted(scores_after) == [0, 1, 2, 3]
    assert all(len(epochs) == 6 for epochs in scores_after.values())
    assert all(scores_after[number].items() >= epochs.items() for number, epochs in scores_before.items())
    # The interrupted trial equals an uninterrupted run with the same settings.
    settings = run.read_json("config.json")["config"]
    run_config = TrainClassifierConfig.parse({"shards": config.shards, "run": tmp_path / "run", **settings})
    run_config.run.mkdir()
    torch.set_num_threads(1)
    train_loop(run_config, World(0, 1, torch.device("cpu")))
    history = RunFolder(run_config.run).read_history()
    assert {metrics["epoch"]: metrics["val_macro_f1"] for metrics in history} == scores_after[2]


@pytest.mark.slow
def test_interrupted_search_writes_results_so_far(
    config: SearchConfig, files: dict[str, Path], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    driver = start_command(*tune_command(config, files["slow"]), log=log)
    wait_until(lambda: len(RunFolder(SearchFolder(config.run).trial(0)).read_history()) >= 2, 90)
    driver.send_signal(signal.SIGINT)
    assert driver.wait(timeout=60) == 130
    output = log.read_text()
    assert "best: trial" in output
    assert "interrupted" in output
    assert "Traceback" not in output
    for name in ("best.yaml", "report.html", "best/model.safetensors"):
        assert (config.run / name).is_file()


def test_unknown_key_ends_command_before_it_starts(config: SearchConfig, tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text("learning_rte: {low: 0.1, high: 0.2}\n")
    completed = run_command("tune", "--shards", config.shards, "--run", config.run, "--space", space)
    assert completed.returncode == 2
    last_line = completed.stderr.strip().splitlines()[-1]
    assert "error: --space" in last_line
    assert "did you mean 'learning_rate'?" in last_line
    assert "trials concurrently" not in completed.stderr
    assert not config.run.exists()
