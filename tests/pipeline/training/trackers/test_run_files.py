"""What of a run folder a tracker gets."""

from __future__ import annotations

from pathlib import Path

from pipeline.training.run_folder import RunFolder
from pipeline.training.trackers.run_files import (
    epoch_values,
    model_files,
    parameters,
    results,
    sample_folders,
)
from pipeline.training.trackers.tracked_runs import training_runs


def test_parameters_have_dotted_keys_and_no_credentials(tmp_path: Path) -> None:
    config = {"mixup": {"rate": 0.5}, "extra_shards": ["s3://b/x?access_key=sesame", "/local"]}
    RunFolder(tmp_path).write_json("config.json", {"command": "train-classifier", "config": config})
    found = parameters(tmp_path, {"shards": "https://me:sesame@host/x?token=sesame#sesame", "workers": 2})
    assert found == {
        "shards": "https://host/x",
        "workers": 2,
        "mixup.rate": 0.5,
        "extra_shards": ["s3://b/x", "/local"],
        "command": "train-classifier",
    }


def test_epoch_has_the_numbers_of_tensorboard() -> None:
    metrics = {"epoch": 3, "train_loss": 0.5, "val_accuracy": 0.25, "best": True, "diversity": None}
    assert epoch_values(metrics) == {"train/loss": 0.5, "val/accuracy": 0.25}


def test_results_are_finite_numbers_of_all_files(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.write_json("summary.json", {"epochs": 3, "stopped_early": False, "val_loss": float("nan")})
    run.write_json("evaluation.json", {"accuracy": 0.5, "classes": {"dog": 1.0}, "split": "validation"})
    # Thresholds are numbers of each class.
    arm = {"mean": {"accuracy": 0.75}, "folds": [], "thresholds": {"Child speech, kid": 0.4}}
    run.write_json("crossval.json", {**arm, "tuned": arm})
    assert results(tmp_path) == {
        "summary/epochs": 3.0,
        "evaluation/accuracy": 0.5,
        "crossval/mean.accuracy": 0.75,
        "crossval/tuned.mean.accuracy": 0.75,
    }


def test_samples_belong_to_the_epoch_before_them(tmp_path: Path) -> None:
    for name in ("real", "epoch_0005", "epoch_0010", "epoch_x"):
        (tmp_path / "samples" / name).mkdir(parents=True)
    assert sample_folders(tmp_path) == {
        "samples/epoch_0005": 5,
        "samples/epoch_0010": 10,
        "samples/real": 5,
    }
    assert sample_folders(tmp_path / "samples") == {}


def write_models(*folders: Path) -> None:
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("model.safetensors", "model.json", "model.pkl"):
            (folder / name).write_text("{}")


def test_model_of_a_run_is_its_safetensors(tmp_path: Path) -> None:
    assert model_files(tmp_path) == []
    write_models(tmp_path, tmp_path / "validated")
    assert model_files(tmp_path) == ["model.safetensors", "model.json"]


def test_model_of_an_ensemble_has_all_members(tmp_path: Path) -> None:
    write_models(tmp_path / "member_1", tmp_path / "member_2")
    (tmp_path / "ensemble.json").write_text("{}")
    members = [f"member_{i}/model.{end}" for i in (1, 2) for end in ("safetensors", "json")]
    assert model_files(tmp_path) == ["ensemble.json", *members]


def test_model_of_a_search_is_the_best_one(tmp_path: Path) -> None:
    write_models(tmp_path / "best", tmp_path / "trials/0000")
    assert model_files(tmp_path) == ["best/model.safetensors", "best/model.json"]


def test_runs_in_a_run_are_its_children(tmp_path: Path) -> None:
    names = ["fold_1", "fold_2/member_1", "fold_2/validated", "fold_x", "best", "checkpoints", "wandb"]
    for name in names:
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    runs = {str(run.folder.relative_to(tmp_path)): run for run in training_runs(tmp_path)}
    assert list(runs) == [".", "fold_1", "fold_2", "fold_2/member_1", "fold_2/validated"]
    assert [run.kind for run in runs.values()] == ["run", "fold", "fold", "member", "validated"]
    assert runs["fold_2/member_1"].parent == tmp_path / "fold_2" and runs["."].parent is None
    assert runs["fold_2/member_1"].name == f"{tmp_path.name}/fold_2/member_1"
