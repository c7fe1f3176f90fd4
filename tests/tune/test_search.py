"""Checks of a search before its first trial starts."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.dataset import open_dataset
from pipeline.data.split import Split
from pipeline.distributed.batch_job import run_in_process
from pipeline.extract import extract
from pipeline.io.errors import UserError
from pipeline.io.folder_lock import own_folder
from tests.helpers.label_sets import write_label_set_shards
from tests.helpers.sounds import extract_config, write_shards
from tests.tune.searches import search_config
from tune.config import SearchConfig
from tune.search import (
    check,
    check_gan_clips,
    choose_metric,
    ineffective_grace,
    known_trials,
    limit_trials,
    make_spec,
    search,
    write_record,
)
from tune.trials import Point, SearchFolder, Trial, score_line


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("tones"), clips=8)


def config_with_space(shards: Path, folder: Path, space: str, **overrides: object) -> SearchConfig:
    (folder / "space.yaml").write_text(space)
    return search_config(shards=shards, run=folder / "run", space=folder / "space.yaml", **overrides)


def test_network_that_timm_cannot_build_is_refused_before_any_trial(shards: Path, tmp_path: Path) -> None:
    space = "model.arch: [cnn, 'timm:no_such_network']"
    config = config_with_space(shards, tmp_path, space)
    with pytest.raises(UserError, match="timm:no_such_network"):
        check(config)
    (tmp_path / "base.yaml").write_text("model: {arch: 'timm:no_such_network'}")
    with pytest.raises(UserError, match="timm:no_such_network"):
        check(search_config(shards=shards, run=tmp_path / "run", base=tmp_path / "base.yaml"))


def test_gan_that_cannot_start_from_a_run_is_refused_before_any_trial(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "classifier").mkdir()
    (tmp_path / "base.yaml").write_text(f"init_from: {tmp_path / 'classifier'}")
    config = search_config(shards=shards, run=tmp_path / "run", base=tmp_path / "base.yaml", model="gan")
    with pytest.raises(UserError, match=r"no model\.safetensors in it"):
        check(config)


def test_missing_initial_run_of_any_trial_is_refused_before_the_first(shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "first"
    config = config_with_space(shards, tmp_path, f"init_from: [null, {run}]")
    with pytest.raises(UserError, match=f"--init-from {run}: no such file or folder"):
        check(config)
    assert not config.run.exists()


def test_more_inner_folds_than_recordings_are_refused(shards: Path, tmp_path: Path) -> None:
    config = config_with_space(shards, tmp_path, "batch_size: [8, 16]", inner_folds=5)
    with pytest.raises(
        UserError, match=r"--inner-folds: 5 folds requested, but class 'tone 0' has only 4 recordings"
    ):
        make_spec(config)


@pytest.mark.parametrize(
    ("space", "overrides", "trials"),
    [
        ("batch_size: [8, 16]", {}, 2),
        ("learning_rate: [1e-3, 4e-3]\nbatch_size: {low: 8, high: 10}", {}, 6),
        ("learning_rate: {low: 1e-4, high: 4e-3}", {}, 12),
        ("batch_size: [8, 16]", {"scheduler": "pbt"}, 12),
    ],
)
def test_trials_are_limited_by_size_of_space(
    shards: Path,
    tmp_path: Path,
    space: str,
    overrides: dict,
    trials: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = config_with_space(shards, tmp_path, space, **overrides)
    with caplog.at_level(logging.WARNING, logger="melray"):
        assert limit_trials(config, make_spec(config)).trials == trials
    assert ("each is tried once" in caplog.text) == (trials < 12)


def test_search_continues_on_clips_that_were_extracted_again_only(tmp_path: Path) -> None:
    shards = write_shards(tmp_path)
    config = config_with_space(shards, tmp_path, "batch_size: [8, 16]", resume=True)
    spec = make_spec(config)
    write_record(config, spec)
    clip = tmp_path / "data" / "train" / "tone 0" / "1-0000-0.wav"
    os.utime(clip, (1, 1))
    extract(extract_config(tmp_path / "data", shards), run_in_process)
    assert known_trials(config, spec) == []
    clip.unlink()
    extract(extract_config(tmp_path / "data", shards), run_in_process)
    with pytest.raises(UserError, match=r"contains a search with other clips than --shards .* has now"):
        known_trials(config, spec)


def test_search_continues_on_the_same_extra_shards_only(shards: Path, tmp_path: Path) -> None:
    extra = write_shards(tmp_path / "extra", clips=12)
    (tmp_path / "base.yaml").write_text(f"extra_shards: ['{extra}']")
    config = config_with_space(shards, tmp_path, "batch_size: [8, 16]", base=tmp_path / "base.yaml")
    write_record(config, make_spec(config))
    assert known_trials(config, make_spec(config)) == []
    record = json.loads((config.run / "search.json").read_text())
    (tmp_path / "extra" / "data" / "train" / "tone 0" / "1-0000-0.wav").unlink()
    extract(extract_config(tmp_path / "extra" / "data", extra), run_in_process)
    with pytest.raises(UserError, match=r"contains a search with other clips than --extra-shards has now"):
        known_trials(config, make_spec(config))
    # Earlier versions recorded those of --shards only.
    record["extra_digests"] = []
    (config.run / "search.json").write_text(json.dumps(record))
    assert known_trials(config, make_spec(config)) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"workers_per_trial": 2, "cpus_per_worker": 1},
        {"metric": "val_macro_f1", "grace_epochs": 1},  # what the defaults stand for
    ],
    ids=["resources", "defaults"],
)
def test_search_continues_with_other_resources_and_written_out_defaults(
    shards: Path, tmp_path: Path, changes: dict
) -> None:
    config = config_with_space(shards, tmp_path, "batch_size: [8, 16]")
    write_record(config, make_spec(config))
    changed = config.model_copy(update=changes)
    assert known_trials(changed, make_spec(changed)) == []
    other = config.model_copy(update={"grace_epochs": 2})
    with pytest.raises(UserError, match=r"a search with grace_epochs = 1 \(requested 2\); choose another"):
        known_trials(other, make_spec(other))


def test_search_of_an_earlier_version_continues(shards: Path, tmp_path: Path) -> None:
    """It lacks the settings that the version did not have."""
    config = config_with_space(shards, tmp_path, "batch_size: [8, 16]")
    spec = make_spec(config)
    write_record(config, spec)
    path = config.run / "search.json"
    record = json.loads(path.read_text())
    del record["config"]["reduction_factor"], record["base"]["schedule"], record["base"]["mixup"]["domain"]
    path.write_text(json.dumps(record))
    assert known_trials(config, spec) == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("_manifest.json", "a dataset"),
        ("predictions.parquet", "predictions"),
        ("crossval.json", "a cross-validation"),
        ("ensemble.json", "an ensemble"),
    ],
)
def test_folder_with_results_of_other_command_is_refused(
    shards: Path, tmp_path: Path, name: str, content: str
) -> None:
    config = config_with_space(shards, tmp_path, "batch_size: [8, 16]")
    config.run.mkdir()
    (config.run / name).write_text("{}")
    with pytest.raises(UserError, match=f"^--run .*run contains {content}; choose another --run"):
        known_trials(config, make_spec(config))


def test_remains_of_a_search_that_was_killed_at_its_end_are_deleted(shards: Path, tmp_path: Path) -> None:
    """Checkpoints, Ray's state, and a record that was being written, which would be copied to `best/`."""
    config = search_config(shards=shards, run=tmp_path / "run", trials=1)
    spec = make_spec(config)
    trial = Trial(0, spec.space.read(spec.base), "finished", "", 1.0, [Point(1, 0.5, 1.0)])
    folder = SearchFolder(config.run)
    write_record(config, spec)
    folder.save(trial)
    folder.append_scores([score_line(0, trial.points[0])])
    (folder.trial(0) / ".trial.json.0123abcd.tmp").write_text('{"number"')
    (folder.trial(0) / "checkpoints" / "epoch_0001").mkdir(parents=True)
    (config.run / ".tune" / "0123abcd").mkdir(parents=True)
    search(config)
    for name in ("*.tmp", "checkpoints", ".tune"):
        assert not list(config.run.glob(f"**/{name}"))


def test_search_of_gans_that_cannot_be_scored_is_refused(tmp_path: Path) -> None:
    shards = write_shards(tmp_path, clips=3)
    make_spec(search_config(shards=shards, model="gan", val_fraction=0.4))
    with pytest.raises(UserError, match=r"class .* has too few training clips \(1, 2 for validation\)"):
        make_spec(search_config(shards=shards, model="gan", val_fraction=0.7))
    config = make_spec(search_config(shards=shards, model="gan", val_fraction=0.4)).base
    dataset = open_dataset(shards)
    rows = np.argsort(dataset.labels, kind="stable")
    split = Split(rows[1:], rows[:1], np.zeros(0, int))
    with pytest.raises(UserError, match=r"^1 validation clip to score trials of a GAN with, which needs at"):
        check_gan_clips(config, dataset, split, workers=1)


@pytest.mark.parametrize("metric", ["frechet", "class_accuracy"])
def test_trials_of_gans_keep_the_epoch_that_scores_best(shards: Path, metric: str) -> None:
    config = search_config(shards=shards, model="gan", metric=metric, val_fraction=0.4)
    assert make_spec(config).base.monitor == metric


def test_second_search_in_folder_is_refused(shards: Path, tmp_path: Path) -> None:
    config = config_with_space(shards, tmp_path, "batch_size: [8, 16]")
    with (
        own_folder(config.run, "tune", "--run"),
        pytest.raises(UserError, match=r"--run .*run is in use by `melray tune` \(process \d+ on"),
    ):
        search(config)


def test_multi_label_search_optimizes_average_precision(tmp_path: Path) -> None:
    shards = write_label_set_shards(tmp_path / "shards", recordings=8)
    config = choose_metric(search_config(shards=shards, run=tmp_path / "run"))
    assert (config.metric_name, config.mode) == ("val_map", "max")
    spec = make_spec(config)
    assert spec.metric == "val_map" and spec.base.monitor == "val_map"
    assert choose_metric(config) == config
    with pytest.raises(UserError, match="--metric val_accuracy: not a metric of multi-label runs"):
        choose_metric(search_config(shards=shards, metric="val_accuracy"))
    with pytest.raises(UserError, match="a GAN generates clips of one class"):
        choose_metric(search_config(shards=shards, model="gan"))


def test_multi_label_search_without_validated_classes_is_refused(tmp_path: Path) -> None:
    shards = write_label_set_shards(tmp_path / "shards", recordings=5, windows=1, rates=(0.3,))
    config = choose_metric(search_config(shards=shards))
    with pytest.raises(UserError, match="no clip in the validation set has any class, so every trial would"):
        make_spec(config)
    make_spec(config.model_copy(update={"metric": "val_loss"}))


@pytest.mark.parametrize(
    ("overrides", "effect"),
    [
        ({"grace_epochs": 9}, "--grace-epochs 9 with --max-epochs 9: no trial is stopped early; lower it"),
        ({"grace_epochs": 10, "scheduler": "pbt"}, "values of trials are never changed"),
        ({"grace_epochs": 8}, ""),
        ({"max_epochs": 1}, ""),
        ({"grace_epochs": 9, "scheduler": "none"}, ""),
    ],
)
def test_grace_period_without_effect_is_named(overrides: dict, effect: str) -> None:
    reason = ineffective_grace(search_config(**overrides))
    assert effect in reason and bool(reason) == bool(effect)


def test_search_of_single_labels_keeps_its_metric(shards: Path) -> None:
    config = search_config(shards=shards)
    assert choose_metric(config) == config and config.metric_name == "val_macro_f1"
    with pytest.raises(UserError, match="--metric val_map: not a metric of runs with one class per clip"):
        choose_metric(search_config(shards=shards, metric="val_map"))
