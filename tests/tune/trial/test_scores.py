"""A trial's epochs as scores, without a cluster."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models.gan import GanConfig
from pipeline.classifier.loop import train_loop
from pipeline.data.dataset import open_dataset
from pipeline.data.split import split_rows
from pipeline.gan.train_reference_classifier import get_reference_classifier
from pipeline.io.errors import UserError
from pipeline.training.run_folder import RunFolder
from tests.helpers.runs import ALONE
from tests.helpers.sounds import gan_config, train_config, write_shards
from tune.space import parse_space
from tune.trial.scores import trial_scores
from tune.trial.spec import TrialSpec, open_trial_runs


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("tones"), clips=12)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def job(shards: Path, folder: Path, **changes: object) -> TrialSpec:
    base = train_config(shards, folder, epochs=3)
    space = parse_space({"learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}}, base, "space")
    settings = {
        "metric": "val_macro_f1",
        "mode": "max",
        "parts": 1,
        "workers": 1,
        "cpus": 1,
        "gpus": 0.0,
        "mutates_values": False,
    }
    return TrialSpec(model="classifier", base=base, space=space, folder=folder, **settings | changes)  # type: ignore[arg-type]


def run(one: TrialSpec, number: int = 0, most: int = 99) -> list[dict]:
    """The scores of a trial, broken off after `most`."""
    settings = one.settings(number, {"learning_rate": 5e-3})
    open_trial_runs(one, settings)
    scores = trial_scores(one, settings, ALONE)
    told = []
    for score in scores:
        told.append(score)
        if len(told) == most:
            break
    scores.close()
    return told


def test_a_trial_scores_as_the_same_training_does_and_is_a_run_like_any_other(
    shards: Path, tmp_path: Path
) -> None:
    told = run(job(shards, tmp_path / "search"))
    config = train_config(shards, tmp_path / "alone", epochs=3, learning_rate=5e-3)
    config.run.mkdir()
    result = train_loop(config, ALONE)
    alone = RunFolder(config.run).read_history()
    assert told == [{"epoch": line["epoch"], "score": line["val_macro_f1"]} for line in alone]
    summary = RunFolder(tmp_path / "search/trials/0000").read_json("summary.json")
    assert summary["val_macro_f1"] == result["val_macro_f1"]


def test_a_broken_off_trial_tells_its_epochs_again_and_goes_on_as_if_nothing_had_been(
    shards: Path, tmp_path: Path
) -> None:
    whole = run(job(shards, tmp_path / "whole"))
    assert run(job(shards, tmp_path / "broken"), most=2) == whole[:2]
    assert run(job(shards, tmp_path / "broken")) == whole
    assert run(job(shards, tmp_path / "broken")) == whole  # also once it is finished


def test_where_values_change_only_new_epochs_are_told(shards: Path, tmp_path: Path) -> None:
    changing = job(shards, tmp_path, mutates_values=True)
    first = run(changing, most=2)
    settings = changing.settings(0, {"learning_rate": 1e-3})
    open_trial_runs(changing, settings)  # the same folder takes on other values
    rest = list(trial_scores(changing, settings, ALONE))
    assert [score["epoch"] for score in first + rest] == [1, 2, 3]


def test_parts_validate_on_every_clip_once_and_the_score_is_their_mean(shards: Path, tmp_path: Path) -> None:
    three = job(shards, tmp_path, parts=3)
    settings = three.settings(0, {"learning_rate": 5e-3})
    rows = open_dataset(shards)
    splits = [split_rows(rows, one) for one in settings]
    own = np.flatnonzero(rows.table["copy"] == 0)
    assert sorted(np.concatenate([split.val for split in splits])) == sorted(own)
    group = rows.table["group"].to_numpy()
    for split in splits:
        assert not set(group[split.val]) & set(group[split.train])
    told = run(three)
    histories = [RunFolder(one.run).read_history() for one in settings]
    for epoch, score in enumerate(told):
        assert score["epoch"] == epoch + 1
        assert score["score"] == pytest.approx(
            np.mean([history[epoch]["val_macro_f1"] for history in histories])
        )


def test_too_many_parts_are_told_in_a_line(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"--val-split: 13 parts, but a class has 12 clips only; choose 12 or fewer"
    ):
        run(job(shards, tmp_path, parts=13))


def test_a_generator_scores_at_the_epochs_that_are_judged(shards: Path, tmp_path: Path) -> None:
    base = gan_config(
        shards,
        tmp_path,
        epochs=4,
        sample_every=2,
        select_best=True,
        gan=GanConfig(latent_dim=8, style_dim=16, channels=(8, 16), patch=4),
    )
    space = parse_space({"penalty_weight": {"low": 0.1, "high": 10.0, "log": True}}, base, "space")
    one = TrialSpec("gan", base, space, tmp_path, "frechet", "min", 1, 1, 1, 0.0, False)
    settings = one.settings(0, {"penalty_weight": 2.0})
    get_reference_classifier(settings[0], "selection")  # type: ignore[arg-type]
    open_trial_runs(one, settings)
    told = list(trial_scores(one, settings, ALONE))
    history = RunFolder(settings[0].run).read_history()
    assert told == [{"epoch": epoch, "score": history[epoch - 1]["frechet"]} for epoch in (2, 4)]
