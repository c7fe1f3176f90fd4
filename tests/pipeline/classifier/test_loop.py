"""Classifier training without a cluster: determinism, resume, two workers, and a reference training step."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from models.classifier import ClassifierConfig
from models.norm import NormName
from models.settings import InputName, MixUpConfig
from pipeline.classifier import loop, saved_state
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.loop import plan_step, train_loop, train_step
from pipeline.classifier.prepare import prepare
from pipeline.classifier.state import TrainState
from pipeline.classifier.train import begin_run, describe_result, train_in_process
from pipeline.data.loader import epoch_order
from pipeline.data.split import split_rows
from pipeline.distributed.batch_job import run_in_process
from pipeline.extract import extract
from pipeline.io.errors import UserError
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.model_file import load_classifier
from pipeline.training.run_folder import RunFolder
from pipeline.training.world import World
from tests.helpers.classifier_training import assert_nearly_equal, interrupted_at, train_on_workers
from tests.helpers.runs import SINGLE_WORKER, load_weights, tensors_equal
from tests.helpers.sounds import SMALL_NETWORK, extract_config, train_config, write_shards, write_tones

pytestmark = pytest.mark.usefixtures("single_thread")


def run_loop(config: TrainClassifierConfig) -> dict[str, Any]:
    config.run.mkdir(parents=True, exist_ok=True)
    return train_loop(config, SINGLE_WORKER)


def last_checkpoint(
    config: TrainClassifierConfig,
) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, Any]]:
    checkpoint = Checkpoints(config.run).read()
    assert checkpoint is not None
    return checkpoint


def test_training_classifies_tones(shards: Path, tmp_path: Path) -> None:
    result = run_loop(train_config(shards, tmp_path, epochs=20, learning_rate=1e-2))
    assert result["val_accuracy"] >= 0.9
    history = RunFolder(tmp_path).read_history()
    assert [metrics["epoch"] for metrics in history] == list(range(1, 21))
    assert history[result["best_epoch"] - 1]["best"]
    assert any((tmp_path / "tensorboard").iterdir())


def test_epoch_metrics_have_standard_names(shards: Path, tmp_path: Path) -> None:
    run_loop(train_config(shards, tmp_path, epochs=1))
    (metrics,) = RunFolder(tmp_path).read_history()
    names = (
        "epoch train_loss seconds samples_per_second val_loss val_accuracy val_macro_f1 temperature "
        "learning_rate best"
    )
    assert list(metrics) == names.split()


def test_weights_depend_on_seed_only(shards: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run_loop(train_config(shards, tmp_path / name, epochs=2, seed=seed))
    assert tensors_equal(load_weights(tmp_path / "a"), load_weights(tmp_path / "b"))
    assert not tensors_equal(load_weights(tmp_path / "a"), load_weights(tmp_path / "c"))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_resumed_run_equals_uninterrupted(shards: Path, tmp_path: Path, precision: str) -> None:
    uninterrupted = train_config(shards, tmp_path / "uninterrupted", precision=precision)
    run_loop(uninterrupted)
    interrupted = train_config(shards, tmp_path / "interrupted", precision=precision)
    with interrupted_at(8):  # in the middle of the third epoch
        run_loop(interrupted)
    assert last_checkpoint(interrupted)[1]["epoch"] == 2
    run_loop(interrupted)
    assert tensors_equal(load_weights(uninterrupted.run), load_weights(interrupted.run))
    for group in ("model", "ema", "optimizer"):
        assert tensors_equal(last_checkpoint(uninterrupted)[0][group], last_checkpoint(interrupted)[0][group])


def test_duration_of_a_resumed_run_is_that_of_all_its_epochs(shards: Path, tmp_path: Path) -> None:
    config = train_config(shards, tmp_path, epochs=3)
    begin_run(config)
    with interrupted_at(8):  # in the middle of the third epoch
        run_loop(config)
    run = RunFolder(tmp_path)
    first, second = run.read_history()
    run.write_history([first | {"seconds": 1000.0}, second])
    assert train_in_process(config)["total_seconds"] > 1000.0


def assert_model_is_that_of_the_summary(config: TrainClassifierConfig, result: dict[str, Any]) -> None:
    assert load_classifier(config.run).metadata.training["epoch"] == result["best_epoch"]
    best = [metrics["epoch"] for metrics in RunFolder(config.run).read_history() if metrics["best"]]
    assert best[-1] == result["best_epoch"]


@pytest.mark.parametrize("writer", ["save_current_model", "write_checkpoint"])
@pytest.mark.parametrize("number", [1, 3])
def test_run_killed_between_checkpoint_and_model_equals_uninterrupted(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str, number: int
) -> None:
    """With another number of workers the repeated epoch would be another one."""
    settings = {"epochs": 4, "val_fraction": 0.0}  # every epoch is the best one
    uninterrupted = train_config(shards, tmp_path / "uninterrupted", **settings)
    run_loop(uninterrupted)
    killed = train_config(shards, tmp_path / "killed", **settings)
    calls: list[int] = []

    def kill(*_args: Any, original: Any = getattr(saved_state, writer)) -> None:
        calls.append(1)
        if len(calls) == number:
            raise KeyboardInterrupt
        original(*_args)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(saved_state, writer, kill)
        run_loop(killed)
    epoch = number if writer == "save_current_model" else number - 1
    checkpoint = Checkpoints(killed.run).read()
    assert (0 if checkpoint is None else checkpoint[1]["epoch"]) == epoch
    with pytest.MonkeyPatch.context() as patch:  # resumed, and stopped in the next epoch
        patch.setattr(loop, "train_epoch", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run_loop(killed)
    if epoch:
        assert load_classifier(killed.run).metadata.training["epoch"] == epoch
    assert_model_is_that_of_the_summary(killed, run_loop(killed))
    assert tensors_equal(load_weights(uninterrupted.run), load_weights(killed.run))


@pytest.mark.parametrize("scores", [[0.5, 0.6, 0.9, 0.55], [0.5, 0.4, 0.9, 0.3], [0.5, 0.4, 0.9, 0.95]])
def test_model_is_of_an_epoch_in_the_history_after_a_damaged_checkpoint(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scores: list[float]
) -> None:
    """Epoch 3 is the best one, its checkpoint is damaged, and its repetition by other workers differs."""
    config = train_config(shards, tmp_path, epochs=3)
    values = iter(scores)
    original = loop.evaluate_epoch
    monkeypatch.setattr(
        loop, "evaluate_epoch", lambda state: original(state) | {"val_macro_f1": next(values)}
    )
    run_loop(config)
    (tmp_path / "checkpoints/epoch_0003/ema.safetensors").write_bytes(b"damaged")
    result = run_loop(config)
    assert next(values, None) is None
    assert_model_is_that_of_the_summary(config, result)
    assert result["best_epoch"] == 3 or scores[1] > scores[3]


def test_process_that_has_lost_the_run_writes_nothing_more(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner changes while it writes a checkpoint: it writes neither a model nor metrics."""
    config = train_config(shards, tmp_path, epochs=2)
    run = RunFolder(tmp_path)
    original = saved_state.write_checkpoint

    def write_and_lose(*args: Any) -> None:
        original(*args)
        run.acquire()

    monkeypatch.setattr(saved_state, "write_checkpoint", write_and_lose)
    with pytest.raises(UserError, match="another process has taken over this run"):
        train_loop(config, SINGLE_WORKER, run.acquire())
    assert not (tmp_path / "model.safetensors").exists() and not run.read_history()


@pytest.mark.parametrize("norm", ["group", pytest.param("sync", marks=pytest.mark.slow)])
def test_two_workers_equal_one(norm: NormName, shards: Path, tmp_path: Path) -> None:
    """No batch norm per worker, no dropout: nothing else may depend on how many workers share a batch."""
    model = ClassifierConfig(channels=(8, 16), convs_per_block=1, embedding_dim=16, dropout=0.0, norm=norm)
    settings = {"model": model, "epochs": 3, "class_weights": True, "batch_size": 15}
    run_loop(train_config(shards, tmp_path / "one", **settings))
    two = train_config(shards, tmp_path / "two", **settings)
    train_on_workers(two, tmp_path / "rendezvous")
    metrics = ("train_loss", "val_loss", "val_accuracy", "val_macro_f1")
    assert_nearly_equal(tmp_path / "one", tmp_path / "two", metrics)


def test_train_step_equals_plain_pytorch(shards: Path, tmp_path: Path) -> None:
    """Without augmentation, a step equals a reference implementation."""
    config = train_config(
        shards,
        tmp_path,
        mixup=MixUpConfig(rate=0.0),
        augmentation_strength=0.0,
        ema_decay=0.0,
        weight_decay=0.0,
        warmup_epochs=0.0,
        max_grad_norm=1e9,
        model=ClassifierConfig(
            channels=(8,), convs_per_block=1, embedding_dim=8, dropout=0.0, norm="group", texture=True
        ),
    )
    state = prepare(config, SINGLE_WORKER)
    batch = state.split.train[:8]
    expected_model = prepare(config, SINGLE_WORKER).model
    optimizer = torch.optim.AdamW(expected_model.parameters(), lr=config.learning_rate, weight_decay=0.0)
    mels, labels = state.dataset.mels[batch].astype(np.float32), torch.from_numpy(state.labels[batch])
    heads = expected_model(torch.from_numpy(mels), separate_heads=True).unbind(dim=1)
    losses = [F.cross_entropy(logits, labels, label_smoothing=0.1) for logits in heads]
    sum(losses).backward()
    optimizer.step()
    mean = sum(loss.item() for loss in losses) / len(losses)
    assert float(train_step(state, plan_step(state, batch, 0))) == pytest.approx(mean, rel=1e-5)
    expected = dict(expected_model.named_parameters())
    for name, parameter in state.model.named_parameters():
        torch.testing.assert_close(parameter, expected[name], rtol=1e-4, atol=1e-5, msg=name)


def test_early_stopping_and_learning_rate_decay(shards: Path, tmp_path: Path) -> None:
    result = run_loop(train_config(shards, tmp_path, epochs=60, patience=3, learning_rate=1e-2))
    assert result["stopped_early"] and result["epochs"] == result["best_epoch"] + 3
    learning_rates = [metrics["learning_rate"] for metrics in RunFolder(tmp_path).read_history()]
    assert learning_rates[1:] == sorted(learning_rates[1:], reverse=True)


@pytest.mark.parametrize("kind", ["pcen", "db+pcen"])
def test_training_with_pcen_normalizes_training_rows(shards: Path, tmp_path: Path, kind: InputName) -> None:
    model = ClassifierConfig(
        channels=(8, 16), convs_per_block=1, embedding_dim=16, input=kind, padding="silence"
    )
    config = train_config(shards, tmp_path, epochs=1, model=model)
    run_loop(config)
    state, saved = prepare(config, SINGLE_WORKER), load_classifier(tmp_path).model
    assert saved.pcen is not None
    x_BMT = saved.pcen(torch.from_numpy(state.dataset.mels[state.split.train]))
    torch.testing.assert_close(x_BMT.mean((0, 2)), torch.zeros(x_BMT.shape[1]), rtol=0, atol=1e-3)
    torch.testing.assert_close(x_BMT.std((0, 2)), torch.ones(x_BMT.shape[1]), rtol=1e-2, atol=0)


def test_run_without_validation_keeps_last_epoch(shards: Path, tmp_path: Path) -> None:
    result = run_loop(train_config(shards, tmp_path, val_fraction=0.0, patience=1))
    assert result["best_epoch"] == 4 and "val_loss" not in result


def test_split_separates_recordings_and_held_out_fold(shards: Path, tmp_path: Path) -> None:
    config = train_config(shards, tmp_path, fold=2)
    dataset = prepare(config, SINGLE_WORKER).dataset
    split = split_rows(dataset, config)
    recordings = dataset.table["group"].to_numpy()
    train, val, held_out = (set(recordings[rows]) for rows in (split.train, split.val, split.held_out))
    assert train and val and held_out
    assert train.isdisjoint(val) and train.isdisjoint(held_out) and val.isdisjoint(held_out)
    assert (dataset.table["fold"].to_numpy()[split.held_out] == 2).all()
    assert (dataset.table["copy"].to_numpy()[np.concatenate([split.val, split.held_out])] == 0).all()


def test_augmentation_strength_selects_training_copies(shards: Path, tmp_path: Path) -> None:
    for strength in (0.0, 0.5, 1.0):
        config = train_config(shards, tmp_path, augmentation_strength=strength)
        dataset = prepare(config, SINGLE_WORKER).dataset
        train = dataset.table.iloc[split_rows(dataset, config).train]
        assert (train["strength"] <= strength).all()
        assert (train["copy"] > 0).any() == (strength > 0)


def test_uniform_epoch_has_every_row_once(shards: Path, tmp_path: Path) -> None:
    state = prepare(train_config(shards, tmp_path), SINGLE_WORKER)
    orders = [
        epoch_order(state.labels, state.split.train, "uniform", np.random.default_rng([42, epoch]))
        for epoch in (0, 1)
    ]
    assert all(sorted(order) == sorted(state.split.train) for order in orders)
    assert not np.array_equal(*orders)


def test_balanced_epoch_has_equal_class_frequencies(shards: Path, tmp_path: Path) -> None:
    state = prepare(train_config(shards, tmp_path), SINGLE_WORKER)
    train = state.split.train
    # Two rows of class 0, all rows of the others.
    imbalanced = train[(state.labels[train] != 0) | (np.arange(len(train)) < 2)]
    sampled = np.concatenate(
        [
            state.labels[epoch_order(state.labels, imbalanced, "balanced", np.random.default_rng(epoch))]
            for epoch in range(50)
        ]
    )
    assert np.allclose(np.bincount(sampled) / len(sampled), 1 / 3, atol=0.05)


def test_nan_loss_error_names_learning_rate(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "train_step", lambda *_: torch.tensor(math.nan))
    with pytest.raises(UserError, match=r"loss is nan in epoch 1.*--learning-rate"):
        run_loop(train_config(shards, tmp_path))


@pytest.mark.parametrize("monitor", ["val_macro_f1", "val_loss"])
def test_nan_validation_loss_ends_run_and_keeps_best(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, monitor: str
) -> None:
    config = train_config(shards, tmp_path, monitor=monitor)
    calls = []

    def evaluate_epoch(state: TrainState) -> dict[str, float]:
        calls.append(1)
        if len(calls) == 3:
            next(state.ema.model.head.parameters()).data.fill_(math.nan)
        return evaluate(state)

    evaluate = loop.evaluate_epoch
    monkeypatch.setattr(loop, "evaluate_epoch", evaluate_epoch)
    with pytest.raises(
        UserError,
        match=r"the validation loss is nan in epoch 3: try a lower --learning-rate .* epoch [12] is kept in",
    ):
        run_loop(config)
    weights = load_weights(tmp_path)
    assert all(torch.isfinite(value).all() for value in weights.values())
    assert [metrics["epoch"] for metrics in RunFolder(tmp_path).read_history()] == [1, 2]


def test_full_disk_keeps_checkpoint_and_run_resumes(shards: Path, full_disk: Path) -> None:
    filler = full_disk / "filler"
    config = train_config(shards, full_disk / "run", model=SMALL_NETWORK)
    # The learning rate schedule differs, so that this tests the files and not that the weights are equal.
    run_loop(config.model_copy(update={"epochs": 1}))
    filler.write_bytes(b"\0" * (shutil.disk_usage(full_disk).free - 4096))
    with pytest.raises(UserError, match=r"disk full while writing to .*run the .*command again"):
        run_loop(config)
    assert last_checkpoint(config)[1]["epoch"] == 1
    filler.unlink()
    assert run_loop(config)["epochs"] == 4


def test_unknown_fold_error_lists_known_folds(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--fold 9: .*\[1, 2, 3, 4, 5\]"):
        prepare(train_config(shards, tmp_path, fold=9), SINGLE_WORKER)


def test_too_many_workers_are_refused(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(World, "run_on_all_ranks", lambda world, action: action())
    with pytest.raises(UserError, match=r"--workers 99: too many workers for \d+ training rows"):
        prepare(train_config(shards, tmp_path), World(0, 99, torch.device("cpu")))


def test_batches_smaller_than_workers_are_refused(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(World, "run_on_all_ranks", lambda world, action: action())
    with pytest.raises(
        UserError, match=r"--workers 4: too many workers for batches of 2 rows; .*--batch-size \(now 2\)"
    ):
        prepare(train_config(shards, tmp_path, batch_size=2), World(0, 4, torch.device("cpu")))


@pytest.mark.slow
def test_ranks_without_validation_clips_agree(tmp_path: Path) -> None:
    """Three validation clips on four workers: one has none."""
    shards = write_shards(tmp_path, clips=8)
    model = ClassifierConfig(channels=(8,), convs_per_block=1, embedding_dim=8, dropout=0.0, norm="group")
    config = train_config(shards, tmp_path / "run", model=model, epochs=1, val_fraction=0.1)
    train_on_workers(config, tmp_path / "rendezvous", 4)
    (metrics,) = RunFolder(config.run).read_history()
    assert math.isfinite(metrics["val_loss"])
    run_loop(config.model_copy(update={"run": tmp_path / "one"}))
    (expected,) = RunFolder(tmp_path / "one").read_history()
    assert metrics["val_loss"] == pytest.approx(expected["val_loss"], rel=1e-3)


def test_result_names_unvalidated_classes(tmp_path: Path) -> None:
    write_tones(tmp_path / "data")
    for clip in sorted((tmp_path / "data/train/tone 1").iterdir())[2:]:
        clip.unlink()
    extract(extract_config(tmp_path / "data", tmp_path / "shards"), run_in_process)
    summary = {"total_seconds": 1.0, **run_loop(train_config(tmp_path / "shards", tmp_path, epochs=1))}
    assert summary["unvalidated_classes"] == ["tone 1"]
    assert describe_result(summary).endswith(" (not validated: 'tone 1')")


def test_checkpoint_of_old_format_is_refused(shards: Path, tmp_path: Path) -> None:
    config = train_config(shards, tmp_path / "run", epochs=2)
    run_loop(config)
    for path in config.run.glob("checkpoints/*/state.json"):
        state = json.loads(path.read_text())
        del state["format_version"]
        path.write_text(json.dumps(state))
    with pytest.raises(
        UserError, match=r"state.json was written by melray < 0.2: train again in a new --run"
    ):
        run_loop(config)
