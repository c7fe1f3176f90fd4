"""Truths of a training that need no cluster."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F

from models.batch_augment import MixUpConfig, sample_batch_augmentation
from models.classifier import ClassifierConfig
from pipeline.classifier import loop as train_classifier
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.loop import train_loop, train_step
from pipeline.classifier.state import prepare
from pipeline.data.loader import epoch_order
from pipeline.data.split import split_rows
from pipeline.io.errors import UserError
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.world import World
from tests.helpers.runs import ALONE, same, weights
from tests.helpers.sounds import train_config, write_shards


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("tones"))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def run_loop(config: TrainClassifierConfig) -> dict:
    config.run.mkdir(parents=True, exist_ok=True)
    return train_loop(config, ALONE)


def test_learns_tones(shards: Path, tmp_path: Path) -> None:
    result = run_loop(train_config(shards, tmp_path, epochs=20, learning_rate=1e-2))
    assert result["val_accuracy"] >= 0.9
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, 21))
    assert lines[result["best_epoch"] - 1]["best"]
    assert any((tmp_path / "tensorboard").iterdir())


def test_same_seed_same_weights_other_seed_others(shards: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run_loop(train_config(shards, tmp_path / name, epochs=2, seed=seed))
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_resume_equals_no_stop(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    whole = train_config(shards, tmp_path / "whole", precision=precision)
    run_loop(whole)
    broken = train_config(shards, tmp_path / "broken", precision=precision)
    real, calls = train_classifier.train_step, []

    def dies(*args: object) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 8:  # in the middle of the third epoch
            raise KeyboardInterrupt
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(train_classifier, "train_step", dies)
    with pytest.raises(KeyboardInterrupt):
        run_loop(broken)
    monkeypatch.setattr(train_classifier, "train_step", real)
    assert Checkpoints(broken.run).read()[1]["epoch"] == 2  # type: ignore[index]
    run_loop(broken)
    assert same(weights(whole.run), weights(broken.run))
    ends = [Checkpoints(config.run).read() for config in (whole, broken)]
    for group in ("model", "ema", "optimizer"):
        assert same(ends[0][0][group], ends[1][0][group])  # type: ignore[index]


def _two(rank: int, rendezvous: str, config: TrainClassifierConfig) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    train_loop(config, World.current(torch.device("cpu")))
    dist.destroy_process_group()


def test_two_workers_equal_one(shards: Path, tmp_path: Path) -> None:
    """Group norm and no dropout: all else must not depend on how many workers share a batch."""
    model = ClassifierConfig(channels=(8, 16), convs_per_block=1, embedding_dim=16, dropout=0.0, norm="group")
    changes = {"model": model, "epochs": 3, "class_weights": True, "batch_size": 15}
    run_loop(train_config(shards, tmp_path / "one", **changes))
    two = train_config(shards, tmp_path / "two", **changes)
    two.run.mkdir()
    mp.start_processes(_two, (str(tmp_path / "rendezvous"), two), nprocs=2, start_method="spawn")
    one_weights, two_weights = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name, value in one_weights.items():
        # Sums over a batch are taken in another order; AdamW divides by the root of tiny squares and widens that.
        torch.testing.assert_close(two_weights[name], value, rtol=1e-3, atol=1e-4)
    lines = [
        json.loads((tmp_path / name / "metrics.jsonl").read_text().splitlines()[-1])
        for name in ("one", "two")
    ]
    for key in ("train_loss", "val_loss", "val_accuracy", "val_macro_f1"):
        assert lines[0][key] == pytest.approx(lines[1][key], rel=1e-3), key


def test_step_equals_plain_pytorch(shards: Path, tmp_path: Path) -> None:
    """Without augmentation a step is that of the textbook."""
    config = train_config(
        shards,
        tmp_path,
        mixup=MixUpConfig(rate=0.0),
        augmentation_strength=0.0,
        ema_decay=0.0,
        weight_decay=0.0,
        warmup_epochs=0.0,
        max_grad_norm=1e9,
        model=ClassifierConfig(channels=(8,), convs_per_block=1, embedding_dim=8, dropout=0.0, norm="group"),
    )
    t = prepare(config, ALONE)
    batch = t.split.train[:8]
    reference = prepare(config, ALONE)
    optimizer = torch.optim.AdamW(reference.model.parameters(), lr=config.learning_rate, weight_decay=0.0)
    loss = F.cross_entropy(
        reference.model(torch.from_numpy(t.rows.mels[batch].astype(np.float32))),
        torch.from_numpy(t.labels[batch]),
        label_smoothing=0.1,
    )
    loss.backward()
    optimizer.step()
    draw = sample_batch_augmentation(np.random.default_rng(0), 8, config.mixup, config.spec_augment, 0.0)
    assert float(train_step(t, batch, draw)) == pytest.approx(loss.item(), rel=1e-5)
    for (name, mine), theirs in zip(t.model.named_parameters(), reference.model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5, msg=name)


def test_learning_rate_falls_and_early_stopping_stops(shards: Path, tmp_path: Path) -> None:
    result = run_loop(train_config(shards, tmp_path, epochs=60, patience=3, learning_rate=1e-2))
    assert result["stopped_early"] and result["epochs"] == result["best_epoch"] + 3
    rates = [
        json.loads(line)["learning_rate"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()
    ]
    assert rates[1:] == sorted(rates[1:], reverse=True)


def test_without_validation_the_last_epoch_is_kept(shards: Path, tmp_path: Path) -> None:
    result = run_loop(train_config(shards, tmp_path, val_fraction=0.0, patience=1))
    assert result["best_epoch"] == 4 and "val_loss" not in result


def test_split_keeps_recordings_whole_and_the_fold_apart(shards: Path, tmp_path: Path) -> None:
    config = train_config(shards, tmp_path, fold=2)
    rows = prepare(config, ALONE).rows
    split = split_rows(rows, config)
    groups = rows.table["group"].to_numpy()
    sides = [set(groups[side]) for side in (split.train, split.val, split.held_out)]
    assert all(sides) and not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    assert (rows.table["fold"].to_numpy()[split.held_out] == 2).all()
    assert (rows.table["copy"].to_numpy()[np.concatenate([split.val, split.held_out])] == 0).all()


def test_augmentation_strength_chooses_copies(shards: Path, tmp_path: Path) -> None:
    for strength in (0.0, 0.5, 1.0):
        config = train_config(shards, tmp_path, augmentation_strength=strength)
        rows = prepare(config, ALONE).rows
        train = rows.table.iloc[split_rows(rows, config).train]
        assert (train["strength"] <= strength).all()
        assert (train["copy"] > 0).any() == (strength > 0)


def test_an_epoch_has_every_row_once_or_balanced_classes(shards: Path, tmp_path: Path) -> None:
    config = train_config(shards, tmp_path)
    t = prepare(config, ALONE)
    orders = [
        epoch_order(t.labels, t.split.train, "uniform", np.random.default_rng([42, epoch]))
        for epoch in (0, 1)
    ]
    assert all(sorted(order) == sorted(t.split.train) for order in orders)
    assert not np.array_equal(*orders)
    few = t.split.train[(t.labels[t.split.train] != 0) | (np.arange(len(t.split.train)) < 2)]
    drawn = np.concatenate(
        [
            t.labels[epoch_order(t.labels, few, "balanced", np.random.default_rng(epoch))]
            for epoch in range(50)
        ]
    )
    assert np.allclose(np.bincount(drawn) / len(drawn), 1 / 3, atol=0.05)


def test_a_loss_that_is_not_finite_says_what_to_do(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_classifier, "train_step", lambda *_: torch.tensor(math.nan))
    with pytest.raises(UserError, match=r"loss is nan in epoch 1.*--learning-rate"):
        run_loop(train_config(shards, tmp_path))


def test_a_full_disk_keeps_the_last_checkpoint_and_more_room_lets_it_go_on(
    shards: Path, full_disk: Path
) -> None:
    filler = full_disk / "filler"
    config = train_config(shards, full_disk / "run")
    run_loop(config.model_copy(update={"epochs": 1}))
    # The schedule knows of four epochs only in the configuration that goes on, so this is about files, not about equal weights.
    filler.write_bytes(b"\0" * (shutil.disk_usage(full_disk).free - 4096))
    with pytest.raises(UserError, match=r"disk full while writing to .*run the same command again"):
        run_loop(config)
    assert Checkpoints(config.run).read()[1]["epoch"] == 1  # type: ignore[index]
    filler.unlink()
    assert run_loop(config)["epochs"] == 4


def test_unknown_fold_names_those_there_are(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--fold 9: no clip of that fold; there are \[1, 2, 3, 4, 5\]"):
        prepare(train_config(shards, tmp_path, fold=9), ALONE)
