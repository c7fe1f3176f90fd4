"""Trained runs as one: means of their probabilities, calibrated on clips that none was trained on."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.config import ConfigError
from pipeline.classifier import ensemble_of_runs
from pipeline.classifier.command_configs import EnsembleConfig, EvaluateConfig
from pipeline.classifier.crossval import crossval, fold_config, report_folds
from pipeline.classifier.ensemble_of_runs import MIN_CLIPS, combine_runs
from pipeline.classifier.evaluate import evaluate
from pipeline.classifier.inference import predict_probabilities
from pipeline.classifier.predictor_model import PredictorModel, load_predictor
from pipeline.data.split import split_rows
from pipeline.data.uncached import open_dataset_to_read
from pipeline.io.errors import UserError
from pipeline.io.text import plural
from pipeline.training.run_folder import RunFolder
from tests.helpers.classifier_training import train_run
from tests.helpers.label_sets import write_label_set_shards
from tests.helpers.s3_server import S3Server
from tests.helpers.saved_classifier import save_classifier
from tests.helpers.sounds import train_config, write_shards
from tests.pipeline.classifier.test_crossval import crossval_config

SPLITS: tuple[dict[str, Any], ...] = (
    {"split_seed": 5, "fold": 1, "val_fraction": 0.5},
    {"split_seed": 6, "val_fraction": 0.5},
)
pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture(scope="module")
def runs(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return three runs: `a` and `b` of the same split, with a fold held out, and `c` of another."""
    folder = tmp_path_factory.mktemp("runs")
    torch.set_num_threads(1)
    for seed, (name, split) in enumerate({"a": SPLITS[0], "b": SPLITS[0], "c": SPLITS[1]}.items()):
        train_run(train_config(shards, folder / name, seed=seed, epochs=3, learning_rate=1e-2, **split))
    return {name: folder / name for name in "abc"}


def combined(run: Path, *members: Path, **settings: Any) -> PredictorModel:
    combine_runs(EnsembleConfig(members=members, run=run, device="cpu", **settings))
    return load_predictor(run)


def probabilities(saved: PredictorModel, shards: Path) -> np.ndarray:
    return predict_probabilities(saved.model, open_dataset_to_read(shards).mels[:8])


def record(run: Path) -> dict[str, Any]:
    return json.loads((run / "ensemble.json").read_text(encoding="utf-8"))


def test_probabilities_are_the_calibrated_mean(
    runs: dict[str, Path], shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ensemble = combined(tmp_path / "run", runs["a"], runs["b"])
    means = np.mean([probabilities(load_predictor(runs[name]), shards) for name in "ab"], axis=0)
    scaled = means ** (1 / record(tmp_path / "run")["temperature"])
    expected = scaled / scaled.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities(ensemble, shards), expected, atol=1e-5)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{runs['a']}: accuracy ") and lines[1].startswith(f"{runs['b']}: accuracy ")
    assert lines[2].startswith("together, on ") and lines[3] == f"ensemble of 2 models: {tmp_path / 'run'}"


def test_only_validation_clips_of_all_members_calibrate(
    runs: dict[str, Path], shards: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = open_dataset_to_read(shards)
    splits = [split_rows(dataset, train_config(shards, tmp_path, **split)) for split in SPLITS]
    expected = {
        "same split": ([runs["a"], runs["b"]], set(splits[0].val)),
        "other split": ([runs["a"], runs["c"]], set(splits[0].val) & set(splits[1].val)),
    }
    for name, (members, rows) in expected.items():
        caplog.clear()
        combined(tmp_path / name, *members)
        is_warned = f"no more than {plural(len(rows), 'clip')} of {shards}" in caplog.text
        assert is_warned is (len(rows) < MIN_CLIPS)
        evaluation = json.loads((tmp_path / name / "evaluation.json").read_text(encoding="utf-8"))
        of_member = json.loads((tmp_path / name / "member_2/evaluation.json").read_text(encoding="utf-8"))
        assert evaluation["clips"] == of_member["clips"] == len(rows) > 0
        assert evaluation["split"] == "clips that no member was trained on"
    assert len(expected["other split"][1]) < len(expected["same split"][1])


def test_members_are_copies(runs: dict[str, Path], shards: Path, tmp_path: Path) -> None:
    sources = [shutil.copytree(runs[name], tmp_path / name) for name in "ab"]
    before = probabilities(combined(tmp_path / "run", *sources), shards)
    for source in sources:
        shutil.rmtree(source)
    shutil.move(tmp_path / "run", tmp_path / "moved")
    np.testing.assert_array_equal(probabilities(load_predictor(tmp_path / "moved"), shards), before)
    assert not list((tmp_path / "moved").rglob("checkpoints"))


def test_new_clips_are_evaluated_without_those_trained_on(
    runs: dict[str, Path], shards: Path, tmp_path: Path
) -> None:
    """Clips that one member validates and the other was trained on are left out, too."""
    combined(tmp_path / "run", runs["a"], runs["c"])
    with pytest.raises(UserError, match=r"run is an ensemble of other runs, evaluated .*, add --shards"):
        evaluate(EvaluateConfig(run=tmp_path / "run"))
    (tmp_path / "run/evaluation.json").unlink()
    with pytest.raises(UserError, match=r"ensemble of other runs, which had no clips .*, add --shards"):
        evaluate(EvaluateConfig(run=tmp_path / "run"))
    out = tmp_path / "evaluation"
    metrics = evaluate(EvaluateConfig(run=tmp_path / "run", shards=shards, out=out, device="cpu"))
    dataset = open_dataset_to_read(shards)
    trained = [split_rows(dataset, train_config(shards, tmp_path, **split)).train for split in SPLITS]
    originals = np.flatnonzero(dataset.table["copy"] == 0)
    assert metrics["clips"] == len(np.setdiff1d(originals, np.concatenate(trained)))


def test_multi_label_runs_have_thresholds(tmp_path: Path) -> None:
    shards = write_label_set_shards(tmp_path / "shards")
    members = [tmp_path / "a", tmp_path / "b"]
    for seed, run in enumerate(members):
        train_run(train_config(shards, run, seed=seed, split_seed=0, epochs=2))
    ensemble = combined(tmp_path / "run", *members)
    assert ensemble.metadata.thresholds == tuple(record(tmp_path / "run")["thresholds"].values())


class TestCrossValidations:
    @pytest.fixture(scope="class")
    def crossvals(self, shards: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
        """Return two cross-validations of the same two folds."""
        folder = tmp_path_factory.mktemp("crossval")
        for seed in (1, 2):
            settings = {"num_folds": 2, "epochs": 2, "learning_rate": 1e-2, "seed": seed, "split_seed": 0}
            settings |= {"val_fraction": 0.3 * (seed - 1)}
            config = crossval_config(shards, folder / str(seed), **settings)
            folds = {fold: fold_config(config, fold) for fold in (1, 2)}
            for fold in folds.values():
                train_run(fold)
            report_folds(config, open_dataset_to_read(shards), folds)
        return [folder / "1", folder / "2"]

    def test_each_clip_is_predicted_by_the_models_that_held_it_out(
        self, crossvals: list[Path], shards: Path, tmp_path: Path
    ) -> None:
        ensemble = combined(tmp_path / "run", *crossvals)
        assert ensemble.members == 4
        dataset = open_dataset_to_read(shards)
        loss, clips = 0.0, 0
        for fold in (1, 2):
            config = train_config(shards, tmp_path, num_folds=2, fold=fold, split_seed=0)
            rows = split_rows(dataset, config).held_out
            means = np.mean([self.of_fold(run, fold, dataset.mels[rows]) for run in crossvals], axis=0) ** (
                1 / record(tmp_path / "run")["temperature"]
            )
            own = means[np.arange(len(rows)), dataset.labels[rows]] / means.sum(axis=1)
            loss, clips = loss - float(np.log(own).sum()), clips + len(rows)
        evaluation = json.loads((tmp_path / "run" / "evaluation.json").read_text(encoding="utf-8"))
        assert evaluation["clips"] == clips == (dataset.table["copy"] == 0).sum()
        assert evaluation["log_loss"] == pytest.approx(loss / clips, abs=1e-4)

    def of_fold(self, run: Path, fold: int, mels: np.ndarray) -> np.ndarray:
        """Return the probabilities of a fold's model, calibrated as those of its cross-validation."""
        saved = load_predictor(run / f"fold_{fold}")
        results = json.loads((run / "crossval.json").read_text(encoding="utf-8"))
        saved.model.temperature *= results["member_temperature"]
        return predict_probabilities(saved.model, mels)

    def test_run_and_cross_validation_have_equal_weights(
        self, crossvals: list[Path], runs: dict[str, Path], shards: Path, tmp_path: Path
    ) -> None:
        members = [crossvals[0], runs["c"]]
        ensemble = combined(tmp_path / "run", *members)
        means = np.mean([probabilities(load_predictor(run), shards) for run in members], axis=0)
        scaled = means ** (1 / record(tmp_path / "run")["temperature"])
        expected = scaled / scaled.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(probabilities(ensemble, shards), expected, atol=1e-5)
        evaluation = json.loads((tmp_path / "run" / "evaluation.json").read_text(encoding="utf-8"))
        dataset = open_dataset_to_read(shards)
        assert evaluation["clips"] == len(
            split_rows(dataset, train_config(shards, tmp_path, **SPLITS[1])).val
        )

    def test_new_clips_are_predicted_by_all_models(
        self, crossvals: list[Path], runs: dict[str, Path], tmp_path: Path
    ) -> None:
        new = write_shards(tmp_path / "new", clips=20, copies=0)
        combined(tmp_path / "run", crossvals[0], runs["c"], shards=new)
        evaluation = json.loads((tmp_path / "run" / "evaluation.json").read_text(encoding="utf-8"))
        assert evaluation["clips"] > 30  # those of the same names in the training data were trained on


def test_ensemble_without_clips_to_calibrate_on(
    runs: dict[str, Path], shards: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train_run(train_config(shards, tmp_path / "all", epochs=1, val_fraction=0.0))
    members = [runs["a"], tmp_path / "all"]
    with caplog.at_level(logging.WARNING, logger="melray"):
        ensemble = combined(tmp_path / "run", *members)
    assert "was used in the training of a member, or is in its held-out fold" in caplog.text
    assert record(tmp_path / "run") == {"members": ["member_1", "member_2"]}
    means = np.mean([probabilities(load_predictor(run), shards) for run in members], axis=0)
    np.testing.assert_allclose(probabilities(ensemble, shards), means, atol=1e-5)


def test_ensemble_is_replaced_as_a_whole(
    runs: dict[str, Path], shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    combined(tmp_path / "run", runs["a"], runs["b"], runs["c"])

    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ensemble_of_runs, "write_any", interrupted)
        combined(tmp_path / "run", runs["c"], runs["b"])
    with pytest.raises(UserError):
        load_predictor(tmp_path / "run")
    ensemble = combined(tmp_path / "run", runs["c"], runs["b"])
    assert ensemble.members == 2
    assert sorted(path.name for path in (tmp_path / "run").glob("member_*")) == ["member_1", "member_2"]


def test_object_store(runs: dict[str, Path], shards: Path, server: S3Server, tmp_path: Path) -> None:
    expected = probabilities(combined(tmp_path / "run", runs["a"], runs["b"]), shards)
    run = server.bucket("ensembles") / "run"
    combined(run, runs["a"], runs["b"])
    np.testing.assert_array_equal(probabilities(load_predictor(run), shards), expected)
    again = combined(tmp_path / "nested", run, runs["c"])
    assert again.members == 3


def test_unusable_members_are_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    other = save_classifier(tmp_path / "other", names=("cat", "dog"))
    with pytest.raises(UserError, match=r"^--members: .*other has other classes than .*a: train all again"):
        combined(tmp_path / "run", runs["a"], other)
    with pytest.raises(UserError, match=r"--members .*a: given twice"):
        combined(tmp_path / "run", runs["a"], runs["a"])
    with pytest.raises(ConfigError, match="members"):
        EnsembleConfig.parse({"members": [str(runs["a"])], "run": str(tmp_path / "run")})
    assert not (tmp_path / "run").exists()


def test_links_to_members_are_these_members(runs: dict[str, Path], shards: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(runs["a"])
    with pytest.raises(UserError, match=r"--members .*link: given twice"):
        combined(tmp_path / "run", runs["a"], tmp_path / "link")
    before = probabilities(combined(tmp_path / "run", runs["a"], runs["b"]), shards)
    (tmp_path / "same").symlink_to(tmp_path / "run")
    with pytest.raises(UserError, match=r"--run .*same contains --members .*member_1; choose another --run"):
        combined(tmp_path / "same", tmp_path / "run" / "member_1", runs["c"])
    np.testing.assert_array_equal(probabilities(load_predictor(tmp_path / "run"), shards), before)


def test_folders_of_other_commands_are_refused(runs: dict[str, Path], shards: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--run .*c contains a training run; choose another --run"):
        combined(runs["c"], runs["a"], runs["b"])
    with pytest.raises(UserError, match=r"--run .* contains --members .*a; choose another --run"):
        combined(runs["a"].parent, runs["a"], runs["b"])
    combined(tmp_path / "run", runs["a"], runs["b"])
    for start, config in ((train_run, train_config), (crossval, crossval_config)):
        with pytest.raises(UserError, match="run contains an ensemble; choose another --run"):
            start(config(shards, tmp_path / "run"))
    assert RunFolder(tmp_path / "run").read_config() is None
