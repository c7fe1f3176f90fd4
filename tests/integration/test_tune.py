"""Searches on a cluster: what is found is told and usable, nothing hangs, and whatever dies, the search goes on."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.loop import train_loop
from pipeline.data.dataset import open_dataset
from pipeline.data.split import split_rows
from pipeline.io.errors import UserError
from pipeline.training.model_file import load_classifier, load_generator
from pipeline.training.run_folder import RunFolder
from pipeline.training.world import World
from tests.helpers.processes import kill, kill_worker, later, run, start, wait_for
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
# Slow enough on any machine for a fault to fall into the middle of a trial.
SLOW_BASE = BASE | {
    "model": {"channels": [48, 48], "convs_per_block": 3, "embedding_dim": 16, "dropout": 0.1}
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


def changed(config: SearchConfig, **changes: object) -> SearchConfig:
    return SearchConfig(**config.model_dump() | changes)


def scores(folder: Path) -> dict[int, dict[int, float]]:
    """By trial and epoch; no epoch stands twice."""
    found: dict[int, dict[int, float]] = {}
    for trial in SearchFolder(folder).read():
        epochs = [point.epoch for point in trial.points]
        assert epochs == list(range(1, len(epochs) + 1))
        found[trial.number] = {point.epoch: point.score for point in trial.points}
    return found


@pytest.mark.usefixtures("ray_session")
class TestInOneSession:
    def test_the_result_is_told_and_the_best_can_be_used_and_repeated(
        self, config: SearchConfig, tmp_path: Path
    ) -> None:
        summary = search(changed(config, scheduler="none"))
        trials = SearchFolder(config.run).read()
        assert [trial.state for trial in trials] == ["finished"] * 3
        table = pd.read_csv(config.run / "trials.csv")
        assert sorted(table["trial"]) == [0, 1, 2] and table["score"].is_monotonic_decreasing
        assert table["score"][0] == summary["score"] and table["trial"][0] == summary["trial"]
        assert "learning_rate" in (config.run / "report.html").read_text()
        assert load_classifier(config.run / "best").card.training["val_macro_f1"] == summary["score"]
        assert not (config.run / ".tune").exists()
        # best.yaml is what train-classifier takes, and gives the same score to the last digit.
        best = yaml.safe_load((config.run / "best.yaml").read_text())
        again = TrainClassifierConfig.parse({"shards": config.shards, "run": tmp_path / "again", **best})
        assert again.identity() == RunFolder(config.run / "best").read_json("config.json")["config"]
        torch.set_num_threads(again.cpus_per_worker or 1)
        again.run.mkdir()
        assert train_loop(again, World(0, 1, torch.device("cpu")))["val_macro_f1"] == summary["score"]
        # Run again, it only tells the result; with more trials it goes on.
        assert search(changed(config, scheduler="none")) == summary
        assert (
            len(search(changed(config, scheduler="none", trials=4))["trials"])
            and len(scores(config.run)) == 4
        )
        with pytest.raises(UserError, match=r"holds a search with search.seed = 42 \(now 7\)"):
            search(changed(config, scheduler="none", seed=7))

    def test_a_killed_worker_changes_nothing(
        self, config: SearchConfig, files: dict[str, Path], tmp_path: Path
    ) -> None:
        calm = changed(config, base=files["slow"], trials=2, scheduler="none", run=tmp_path / "calm")
        search(calm)
        disturbed = changed(calm, run=tmp_path / "disturbed")
        first = RunFolder(SearchFolder(disturbed.run).trial(0))
        killed = later(lambda: len(first.read_history()) == 2, lambda: kill_worker("Trainable"))
        search(disturbed)
        assert killed.result() and scores(disturbed.run) == scores(calm.run)
        assert {trial.state for trial in SearchFolder(disturbed.run).read()} == {"finished"}

    def test_a_trial_that_fails_is_recorded_with_its_reason_and_the_others_run(
        self, config: SearchConfig, tmp_path: Path
    ) -> None:
        # A strong copy that is no number: trials that use it can't learn, the others never see it.
        data = write_shards(tmp_path / "tones", clips=10, copies=2)
        rows = open_dataset(data)
        copies = rows.table[rows.table["copy"] > 0].sort_values("strength")
        learnt = split_rows(rows, TrainClassifierConfig(shards=data, run=tmp_path, val_fraction=0.3)).train
        copies = copies[copies.index.isin(learnt)]
        strongest = copies.index[-1]
        mels = np.memmap(rows.mels.filename, np.float16, "r+", shape=rows.mels.shape)  # type: ignore[arg-type]
        mels[strongest] = np.nan
        mels.flush()
        between = float(copies["strength"].iloc[-2:].mean())
        space = tmp_path / "space.yaml"
        space.write_text(yaml.safe_dump({"augmentation_strength": [0.0, between, 1.0]}))
        spoilt = changed(
            config,
            shards=data,
            space=space,
            trials=6,
            searcher="random",
            max_epochs=2,
            scheduler="none",
            val_fraction=0.3,
        )
        search(spoilt)
        trials = SearchFolder(spoilt.run).read()
        assert len(trials) == 6
        by_strength: dict[float, set[str]] = {}
        for trial in trials:
            by_strength.setdefault(trial.values["augmentation_strength"], set()).add(trial.state)
        assert by_strength[1.0] == {"failed"} and {"finished"} in [
            by_strength.get(0.0),
            by_strength.get(between),
        ]
        reason = next(trial.reason for trial in trials if trial.state == "failed")
        assert "the loss is nan in epoch 1: try a lower --learning-rate" in reason
        assert reason in pd.read_csv(spoilt.run / "trials.csv")["reason"].dropna().to_list()

    def test_a_stopped_trial_of_two_workers_makes_room_for_the_next(
        self, config: SearchConfig, tmp_path: Path
    ) -> None:
        """All CPUs belong to one trial at a time: one that does not give them back would hang the search."""
        began = time.monotonic()
        space = tmp_path / "space.yaml"
        space.write_text(yaml.safe_dump({"learning_rate": [2e-3, 1e-6, 2e-6]}))
        search(
            changed(
                config,
                space=space,
                workers_per_trial=2,
                trials=4,
                max_epochs=6,
                grace_epochs=3,
                searcher="random",
                reduction=2.0,
            )
        )
        trials = SearchFolder(config.run).read()
        assert [trial.state for trial in trials if trial.values["learning_rate"] < 1e-3] == ["stopped"] * sum(
            trial.values["learning_rate"] < 1e-3 for trial in trials
        )
        assert (
            len(trials) == 4
            and trials[0].state == "finished"
            and "stopped" in [trial.state for trial in trials]
        )
        assert time.monotonic() - began < 100

    @pytest.mark.parametrize("scheduler", ["pbt", pytest.param("pb2", marks=pytest.mark.slow)])
    def test_a_population_larger_than_the_cluster_changes_its_values_and_ends(
        self, config: SearchConfig, scheduler: str
    ) -> None:
        """Trials take turns, and go on from donors whose checkpoints are old: none may be gone, or the trial would fail."""
        search(changed(config, scheduler=scheduler, trials=4, max_epochs=8, grace_epochs=2))
        trials = SearchFolder(config.run).read()
        assert [trial.state for trial in trials] == ["finished"] * 4 and [
            trial.reason for trial in trials
        ] == [""] * 4
        assert all(trial.points[-1].epoch == 8 for trial in trials)
        first = search_values(config, scheduler)
        assert any(trial.values != first[trial.number] for trial in trials), (
            "nobody took over another's place"
        )
        assert load_classifier(config.run / "best")
        assert not list(config.run.glob("trials/*/kept")) and not list(
            config.run.glob("trials/*/checkpoints")
        )

    def test_what_cannot_be_scheduled_says_so_at_once(self, config: SearchConfig) -> None:
        began = time.monotonic()
        with pytest.raises(UserError, match="needs 1 worker with 5 CPUs; the cluster has room for 0"):
            search(changed(config, cpus_per_worker=5))
        with pytest.raises(UserError, match="needs 3 workers with 1 CPU each; the cluster has room for 2"):
            search(changed(config, workers_per_trial=3))
        assert time.monotonic() - began < 5

    @pytest.mark.slow
    def test_time_that_is_up_ends_the_search_with_what_it_knows_and_more_time_goes_on(
        self, config: SearchConfig, files: dict[str, Path]
    ) -> None:
        short = changed(
            config, base=files["slow"], trials=40, max_epochs=5, scheduler="none", time_budget=0.2
        )
        search(short)
        done = SearchFolder(short.run).read()
        assert 0 < len(done) < 40 and (short.run / "best.yaml").is_file()
        before = scores(short.run)
        search(changed(short, trials=len(done), time_budget=None))
        after = SearchFolder(short.run).read()
        assert [trial.state for trial in after] == ["finished"] * len(done)
        assert all(scores(short.run)[number].items() >= before[number].items() for number in before)

    def test_resume_insists_on_a_search_and_a_training_is_none(self, config: SearchConfig) -> None:
        with pytest.raises(UserError, match=r"--resume: no search in --run"):
            search(changed(config, resume=True))
        config.run.mkdir()
        (config.run / "config.json").write_text("{}")
        with pytest.raises(UserError, match="holds a training, not a search"):
            search(config)


@pytest.mark.slow
def test_each_fold_is_scored_by_what_a_search_without_it_found(
    config: SearchConfig, files: dict[str, Path]
) -> None:
    words = [
        "crossval",
        "--tuned",
        "--shards",
        config.shards,
        "--run",
        config.run,
        "--space",
        config.space,
        "--base",
        files["base"],
    ]
    ended = run(*words, "--num-folds", 2, "--trials", 2, "--max-epochs", 2, "--cpus", 2, timeout=170)
    assert ended.returncode == 0, ended.stderr
    result = RunFolder(config.run).read_json("crossval.json")
    assert (
        [fold["fold"] for fold in result["tuned"]["folds"]]
        == [1, 2]
        == [fold["fold"] for fold in result["base"]["folds"]]
    )
    assert "the search was worth" in ended.stdout
    rows = open_dataset(config.shards)
    for number in (1, 2):
        found = RunFolder(config.run / f"search_{number}")
        assert found.read_json("search.json")["base"]["fold"] == number
        final = RunFolder(config.run / f"tuned/fold_{number}").read_json("config.json")["config"]
        split = split_rows(rows, TrainClassifierConfig(shards=config.shards, run=config.run, **final))
        trial = RunFolder(config.run / f"search_{number}/trials/0000").read_json("config.json")["config"]
        seen = split_rows(rows, TrainClassifierConfig(shards=config.shards, run=config.run, **trial))
        assert len(split.held_out) and not set(split.held_out) & {*split.train, *seen.train, *seen.val}
        assert final["keep"] == "last" and final["val_fraction"] == 0


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_generators_are_searched_with_one_judge(shards: Path, tmp_path: Path) -> None:
    base, space = tmp_path / "base.yaml", tmp_path / "space.yaml"
    base.write_text(
        "gan: {latent_dim: 8, style_dim: 16, channels: [8, 16], patch: 4}\nepoch_steps: 3\nbatch_size: 8\nsamples_per_class: 2\nprecision: fp32\n"
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
    assert summary["metric"] == "frechet" and summary["trials"]["finished"] == 2
    assert load_generator(config.run / "best").card.training["frechet"] == summary["score"]
    assert (config.run / "best/judge/choosing/model.safetensors").is_file()


def search_values(config: SearchConfig, scheduler: str) -> dict[int, dict[str, float]]:
    """What a population starts with."""
    from tune.schedulers import population_param_space
    from tune.search import make_job

    job = make_job(changed(config, scheduler=scheduler, trials=4))
    drawn = population_param_space(
        changed(config, scheduler=scheduler, trials=4), job.space, job.space.read(job.base), []
    )
    return {
        n: job.space.decode({key: drawn[key].func({"config": {"number": n}}) for key in job.space.dimensions})
        for n in range(4)
    }


def command(config: SearchConfig, base: Path) -> list[object]:
    return [
        *("tune", "--shards", config.shards, "--run", config.run, "--space", config.space, "--base", base),
        *("--trials", 4, "--max-epochs", 6, "--scheduler", "none", "--cpus", 2),
    ]


def test_a_killed_driver_started_again_ends_as_the_undisturbed_search(
    config: SearchConfig, files: dict[str, Path], tmp_path: Path
) -> None:
    # By chance, whose suggestions don't hang on which trial ended first.
    words = [*command(config, files["slow"]), "--searcher", "random"]
    driver = start(*words, log=tmp_path / "log")
    folder = SearchFolder(config.run)
    wait_for(lambda: len(RunFolder(folder.trial(2)).read_history()) >= 2, 90)
    kill(driver)
    before = scores(config.run)
    assert {trial.state for trial in folder.read()} == {"finished", "running"}
    again = run(*words, "--resume", timeout=110)
    assert again.returncode == 0, again.stderr
    assert "going on: 2 trials are done" in again.stdout
    after = scores(config.run)
    assert sorted(after) == [0, 1, 2, 3] and all(len(epochs) == 6 for epochs in after.values())
    assert all(after[number].items() >= epochs.items() for number, epochs in before.items())
    # Each trial is what the same settings give without a break.
    job_config = TrainClassifierConfig.parse(
        {
            "shards": config.shards,
            **RunFolder(folder.trial(2)).read_json("config.json")["config"],
            "run": tmp_path / "alone",
        }
    )
    job_config.run.mkdir()
    torch.set_num_threads(1)
    train_loop(job_config, World(0, 1, torch.device("cpu")))
    assert {
        line["epoch"]: line["val_macro_f1"] for line in RunFolder(job_config.run).read_history()
    } == after[2]


@pytest.mark.slow
def test_ctrl_c_tells_what_is_known_so_far(
    config: SearchConfig, files: dict[str, Path], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    driver = start(*command(config, files["slow"]), log=log)
    wait_for(lambda: len(RunFolder(SearchFolder(config.run).trial(0)).read_history()) >= 2, 90)
    driver.send_signal(signal.SIGINT)
    assert driver.wait(timeout=60) == 130
    told = log.read_text()
    assert (
        "best: trial" in told
        and "interrupted; the same command goes on where it stopped" in told
        and "Traceback" not in told
    )
    assert (
        (config.run / "best.yaml").is_file()
        and (config.run / "report.html").is_file()
        and (config.run / "best/model.safetensors").is_file()
    )


def test_a_wrong_key_ends_the_command_before_anything_starts(config: SearchConfig, tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text("learning_rte: {low: 0.1, high: 0.2}\n")
    ended = run("tune", "--shards", config.shards, "--run", config.run, "--space", space)
    assert ended.returncode == 2
    assert (
        ended.stderr.strip().splitlines()[-1].startswith("melray: error: --space")
        and "did you mean 'learning_rate'?" in ended.stderr
    )
    assert not config.run.exists() and "plan" not in ended.stdout
