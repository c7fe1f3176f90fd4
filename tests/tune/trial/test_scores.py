"""Scores of a trial, without a cluster."""

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
from tests.helpers.label_sets import write_label_set_shards
from tests.helpers.runs import SINGLE_WORKER
from tests.helpers.sounds import gan_config, train_config, write_shards
from tune.parse_space import parse_space
from tune.trial.scores import REPEATED_KEY, trial_scores
from tune.trial.spec import TrialSpec, open_trial_runs
from tune.trial.unrecorded import with_unrecorded_epochs
from tune.trials import Point, State, Trial


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("tones"), clips=12)


@pytest.fixture(autouse=True)
def single_thread() -> None:
    torch.set_num_threads(1)


def trial_spec(shards: Path, folder: Path, **overrides: object) -> TrialSpec:
    base = train_config(shards, folder, epochs=3)
    space = parse_space({"learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}}, base, "space")
    fields = {
        "metric": "val_macro_f1",
        "mode": "max",
        "inner_folds": 1,
        "workers": 1,
        "cpus": 1,
        "gpus": 0.0,
        "mutates_params": False,
    }
    return TrialSpec(model="classifier", base=base, space=space, folder=folder, **fields | overrides)  # type: ignore[arg-type]


def run_trial(spec: TrialSpec, max_scores: int = 99) -> list[dict]:
    """Return the scores of trial 0, interrupted after `max_scores`."""
    settings = spec.settings(0, {"learning_rate": 5e-3})
    open_trial_runs(spec, settings)
    stream = trial_scores(spec, settings, SINGLE_WORKER)
    scores = []
    for score in stream:
        scores.append(score)
        if len(scores) == max_scores:
            break
    stream.close()
    return scores


def test_multi_label_trial_scores_inner_folds_by_average_precision(tmp_path: Path) -> None:
    shards = write_label_set_shards(tmp_path / "shards", recordings=10)
    spec = trial_spec(shards, tmp_path / "search", metric="val_map", inner_folds=2)
    scores = run_trial(spec)
    histories = [RunFolder(config.run).read_history() for config in spec.settings(0, {})]
    maps = [[metrics["val_map"] for metrics in history] for history in histories]
    assert [score["score"] for score in scores] == pytest.approx(np.mean(maps, axis=0))
    losses = [[metrics["val_loss"] for metrics in history] for history in histories]
    assert [score["loss"] for score in scores] == pytest.approx(np.mean(losses, axis=0))


def test_trial_scores_equal_those_of_ordinary_run(shards: Path, tmp_path: Path) -> None:
    scores = run_trial(trial_spec(shards, tmp_path / "search"))
    config = train_config(shards, tmp_path / "run", epochs=3, learning_rate=5e-3)
    config.run.mkdir()
    result = train_loop(config, SINGLE_WORKER)
    history = RunFolder(config.run).read_history()
    assert scores == [
        {"epoch": metrics["epoch"], "score": metrics["val_macro_f1"], "loss": metrics["val_loss"]}
        for metrics in history
    ]
    summary = RunFolder(tmp_path / "search/trials/0000").read_json("summary.json")
    assert summary["val_macro_f1"] == result["val_macro_f1"]


def test_interrupted_trial_repeats_scores_and_resumes(shards: Path, tmp_path: Path) -> None:
    uninterrupted = run_trial(trial_spec(shards, tmp_path / "uninterrupted"))
    spec = trial_spec(shards, tmp_path / "interrupted")
    assert run_trial(spec, max_scores=2) == uninterrupted[:2]
    repeated = [{**score, REPEATED_KEY: True} for score in uninterrupted]
    assert run_trial(spec) == repeated[:2] + uninterrupted[2:]
    assert run_trial(spec) == repeated  # also once it is complete


@pytest.mark.parametrize(
    "overrides, state, epochs",
    [
        ({}, "running", 2),
        ({}, "stopped", 1),
        ({"mutates_params": True}, "running", 1),
        ({"inner_folds": 2}, "running", 1),
    ],
    ids=["unfinished", "stopped", "population", "inner folds"],
)
def test_epochs_that_ended_after_the_search_are_found(
    shards: Path, tmp_path: Path, overrides: dict[str, object], state: State, epochs: int
) -> None:
    """The driver was interrupted while the score of the second epoch was on its way."""
    spec = trial_spec(shards, tmp_path, **overrides)
    scores = [
        Point(score["epoch"], score["score"], 5.0, score["loss"]) for score in run_trial(spec, max_scores=2)
    ]
    trial = Trial(0, {"learning_rate": 5e-3}, state, points=scores[:1])
    (completed,) = with_unrecorded_epochs(spec, [trial])
    assert completed.points == scores[:epochs] and trial.points == scores[:1]
    (unstarted,) = with_unrecorded_epochs(spec, [Trial(1, {"learning_rate": 5e-3})])
    assert unstarted.points == []


def test_interrupted_inner_folds_have_scores_of_the_same_epoch(shards: Path, tmp_path: Path) -> None:
    """Also if the values are changed, and the first fold had ended an epoch that the second had not."""
    uninterrupted = run_trial(trial_spec(shards, tmp_path / "uninterrupted", inner_folds=2))
    spec = trial_spec(shards, tmp_path / "interrupted", inner_folds=2, mutates_params=True)
    settings = spec.settings(0, {"learning_rate": 5e-3})
    open_trial_runs(spec, settings)
    for config, epochs in zip(settings, (2, 1), strict=True):
        stream = trial_scores(spec, [config], SINGLE_WORKER)
        assert [next(stream)["epoch"] for _ in range(epochs)] == list(range(1, epochs + 1))
        stream.close()
    assert run_trial(spec) == [{**uninterrupted[0], REPEATED_KEY: True}, *uninterrupted[1:]]


def test_trial_that_copied_another_one_yields_new_epochs_only(shards: Path, tmp_path: Path) -> None:
    spec = trial_spec(shards, tmp_path, mutates_params=True)
    first = run_trial(spec, max_scores=2)
    settings = spec.settings(0, {"learning_rate": 1e-3})
    open_trial_runs(spec, settings)  # the same folder with other values
    rest = list(trial_scores(spec, settings, SINGLE_WORKER, only_new=True))
    assert [score["epoch"] for score in first + rest] == [1, 2, 3]


def test_inner_folds_validate_on_every_clip_once(shards: Path, tmp_path: Path) -> None:
    settings = trial_spec(shards, tmp_path, inner_folds=3).settings(0, {"learning_rate": 5e-3})
    assert [config.run.name for config in settings] == ["fold_1", "fold_2", "fold_3"]
    dataset = open_dataset(shards)
    splits = [split_rows(dataset, config) for config in settings]
    originals = np.flatnonzero(dataset.table["copy"] == 0)
    assert sorted(np.concatenate([split.val for split in splits])) == sorted(originals)
    groups = dataset.table["group"].to_numpy()
    for split in splits:
        assert not set(groups[split.val]) & set(groups[split.train])


def test_score_of_inner_folds_is_their_mean(shards: Path, tmp_path: Path) -> None:
    spec = trial_spec(shards, tmp_path, inner_folds=3)
    scores = run_trial(spec)
    settings = spec.settings(0, {"learning_rate": 5e-3})
    histories = [RunFolder(config.run).read_history() for config in settings]
    for i, score in enumerate(scores):
        assert score["epoch"] == i + 1
        mean = np.mean([history[i]["val_macro_f1"] for history in histories])
        assert score["score"] == pytest.approx(mean)


def test_more_inner_folds_than_clips_are_rejected(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--val-split: 13 folds requested, but class 'tone 0' has only 6 rec"):
        run_trial(trial_spec(shards, tmp_path, inner_folds=13))


def test_gan_trial_has_scores_at_sampled_epochs(shards: Path, tmp_path: Path) -> None:
    base = gan_config(
        shards,
        tmp_path,
        epochs=4,
        sample_every=2,
        select_best=True,
        gan=GanConfig(latent_dim=8, style_dim=16, channels=(8, 16), patch=4),
    )
    space = parse_space({"penalty_weight": {"low": 0.1, "high": 10.0, "log": True}}, base, "space")
    spec = TrialSpec("gan", base, space, tmp_path, "frechet", "min", 1, 1, 1, 0.0, False)
    settings = spec.settings(0, {"penalty_weight": 2.0})
    get_reference_classifier(settings[0], "selection")  # type: ignore[arg-type]
    open_trial_runs(spec, settings)
    scores = list(trial_scores(spec, settings, SINGLE_WORKER))
    history = RunFolder(settings[0].run).read_history()
    assert scores == [{"epoch": epoch, "score": history[epoch - 1]["frechet"]} for epoch in (2, 4)]
