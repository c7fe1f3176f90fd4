"""Trials that continue from the checkpoint of another one (PBT): schedule and model follow its epochs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.training.model_file import load_classifier
from pipeline.training.run_folder import RunFolder
from tests.helpers.sounds import SMALL_NETWORK, train_config, write_shards
from tune.parse_space import parse_space
from tune.trial import trainable
from tune.trial.replaced import keep_replaced, run_with_best_model
from tune.trial.spec import TrialSpec
from tune.trial.trainable import COPIED_KEY, TrialTrainable


@pytest.fixture(scope="module", autouse=True)
def single_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def augmented_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a dataset with four augmented copies of each clip."""
    return write_shards(tmp_path_factory.mktemp("augmented"), clips=12, copies=4)


def make_spec(shards: Path, folder: Path, values: dict[str, object], epochs: int) -> TrialSpec:
    # Too high a learning rate does a head that is linear in bounded features no harm.
    base = train_config(
        shards, folder, epochs=epochs, monitor="val_loss", patience=99, ema_decay=0.0, model=SMALL_NETWORK
    )
    return TrialSpec(
        model="classifier",
        base=base,
        space=parse_space(values, base, "space"),
        folder=folder,
        metric="val_loss",
        mode="min",
        inner_folds=1,
        workers=1,
        cpus=1,
        gpus=0.0,
        mutates_params=True,
    )


def trial(spec: TrialSpec, number: int, **values: float) -> TrialTrainable:
    instance = TrialTrainable.__new__(TrialTrainable)
    instance.setup({"trial_number": number, **values}, spec)
    return instance


def exploit(clone: TrialTrainable, source: TrialTrainable, folder: Path, **values: float) -> None:
    """Continue a trial from another one with new values, to its end."""
    folder.mkdir()
    source.save_checkpoint(str(folder))
    clone.reset_config({"trial_number": 0, **values})
    clone.load_checkpoint(str(folder))
    while not (result := clone.step()).get("done"):
        pass
    assert "error" not in result


def test_learning_rate_follows_the_epochs(augmented_shards: Path, tmp_path: Path) -> None:
    """Copies of other strengths are more or fewer steps in each epoch."""
    spec = make_spec(
        augmented_shards, tmp_path / "search", {"augmentation_strength": {"low": 0.0, "high": 1.0}}, 8
    )
    weak, strong = trial(spec, 0, augmentation_strength=0.0), trial(spec, 1, augmentation_strength=1.0)
    for _ in range(3):
        weak.step(), strong.step()
    exploit(weak, strong, tmp_path / "copy", augmentation_strength=0.1)
    while not strong.step().get("done"):
        pass
    rates = [
        [line["learning_rate"] for line in RunFolder(tmp_path / f"search/trials/{name}").read_history()]
        for name in ("0000", "0001")
    ]
    # Of the last step of an epoch, which is a smaller part of it where there are more steps.
    assert rates[0][3:] == pytest.approx(rates[1][3:], abs=0.1 * max(rates[1]))


def test_results_name_the_checkpoint_of_another_trial(augmented_shards: Path, tmp_path: Path) -> None:
    """Not that of the trial itself, from which it is restarted after the loss of its worker."""
    spec = make_spec(augmented_shards, tmp_path / "search", {"augmentation_strength": [0.0, 1.0]}, 4)
    first, second = trial(spec, 0, augmentation_strength="0.0"), trial(spec, 1, augmentation_strength="1.0")
    assert COPIED_KEY not in first.step() | second.step()
    for folder in (tmp_path / "other", tmp_path / "own"):
        folder.mkdir()
    second.save_checkpoint(str(tmp_path / "other"))
    first.reset_config({"trial_number": 0, "augmentation_strength": "1.0"})
    first.load_checkpoint(str(tmp_path / "other"))
    result = first.step()
    assert result["epoch"] == 2 and Path(result[COPIED_KEY]).is_dir()
    first.save_checkpoint(str(tmp_path / "own"))
    first.reset_config({"trial_number": 0, "augmentation_strength": "1.0"})
    first.load_checkpoint(str(tmp_path / "own"))
    result = first.step()
    assert result["epoch"] == 3 and COPIED_KEY not in result


def test_model_is_that_of_the_best_epoch(augmented_shards: Path, tmp_path: Path) -> None:
    spec = make_spec(
        augmented_shards, tmp_path / "search", {"learning_rate": {"low": 1e-6, "high": 1.0, "log": True}}, 6
    )
    weak, strong = trial(spec, 0, learning_rate=1e-6), trial(spec, 1, learning_rate=2e-2)
    for _ in range(4):
        weak.step(), strong.step()
    exploit(weak, strong, tmp_path / "copy", learning_rate=1.0)  # which improves nothing
    run = RunFolder(tmp_path / "search/trials/0000")
    summary, model = run.read_json("summary.json"), run.read_json("model.json")
    assert summary["best_epoch"] <= 4
    for key in ("epoch", "val_loss"):
        assert model["training"][key] == summary[key]


def test_model_is_that_of_the_best_epoch_after_a_copy_was_interrupted(
    augmented_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search was killed when the trial had copied a checkpoint, but not yet the model."""
    spec = make_spec(
        augmented_shards, tmp_path / "search", {"learning_rate": {"low": 1e-6, "high": 1.0, "log": True}}, 6
    )
    weak, strong = trial(spec, 0, learning_rate=1e-6), trial(spec, 1, learning_rate=2e-2)
    for _ in range(4):
        weak.step(), strong.step()
    run = RunFolder(tmp_path / "search/trials/0000")
    (tmp_path / "copy").mkdir()
    strong.save_checkpoint(str(tmp_path / "copy"))
    weak.reset_config({"trial_number": 0, "learning_rate": 1.0})
    weak.load_checkpoint(str(tmp_path / "copy"))
    with monkeypatch.context() as patch:
        patch.delattr(trainable, "_copy_model")
        assert "_copy_model" in weak.step()["error"]
    resumed = trial(spec, 0, learning_rate=1.0)
    while not (result := resumed.step()).get("done"):
        pass
    assert "error" not in result
    best = run.read_history()[run.read_json("summary.json")["best_epoch"] - 1]
    assert run.read_json("model.json")["training"]["val_loss"] == best["val_loss"]


def test_best_model_is_kept_when_its_run_is_replaced(augmented_shards: Path, tmp_path: Path) -> None:
    """A trial that had the best model of the search falls behind, and continues from another one."""
    spec = make_spec(
        augmented_shards, tmp_path / "search", {"learning_rate": {"low": 1e-9, "high": 1.0, "log": True}}, 6
    )
    good, bad = trial(spec, 0, learning_rate=2e-2), trial(spec, 1, learning_rate=1e-9)
    scores = [good.step()["score"] for _ in range(4)]
    bad.step()
    run = tmp_path / "search/trials/0000"
    best_model = RunFolder(run).read_json("model.json")["training"]
    assert best_model["val_loss"] == min(scores)
    exploit(good, bad, tmp_path / "copy", learning_rate=1e-9)
    assert RunFolder(run).read_json("model.json")["training"]["val_loss"] > min(scores)
    kept = run_with_best_model(spec, 0, run)
    assert RunFolder(kept).read_json("model.json")["training"] == best_model
    assert load_classifier(kept).metadata.training == best_model
    assert len(RunFolder(kept).read_history()) == 4
    # The run that replaced it is no better, so it does not replace the kept one when it is replaced itself.
    keep_replaced(spec, 0, run)
    assert RunFolder(kept).read_json("model.json")["training"] == best_model
    other = tmp_path / "search/trials/0001"
    assert run_with_best_model(spec, 1, other) == other
