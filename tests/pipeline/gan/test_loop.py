"""Truths of the GAN's training that need no cluster."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from models.gan_losses import discriminator_loss, generator_loss
from pipeline.data.dataset import ShardDataset
from pipeline.gan import loop as train_gan
from pipeline.gan import state as gan_state
from pipeline.gan.config import TrainGanConfig
from pipeline.gan.loop import discriminator_step, generator_step, make_batch, train_loop, train_step
from pipeline.gan.state import GanTraining, check_rows, prepare, restore
from pipeline.io.errors import UserError
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.model_file import load_generator
from pipeline.training.world import World
from tests.helpers.runs import ALONE, same, weights
from tests.helpers.sounds import gan_config, write_shards

GROUPS = ("generator", "discriminator", "ema", "generator_optimizer", "discriminator_optimizer")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("tones"))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def run_loop(config: TrainGanConfig) -> dict:
    config.run.mkdir(parents=True, exist_ok=True)
    return train_loop(config, ALONE)


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_model_log_samples_and_pictures(shards: Path, tmp_path: Path) -> None:
    result = run_loop(gan_config(shards, tmp_path, epochs=3, sample_every=2))
    assert result["epochs"] == 3 and result["best_epoch"] == 3
    assert [line["epoch"] for line in lines(tmp_path)] == [1, 2, 3]
    assert any((tmp_path / "tensorboard").iterdir())
    saved = load_generator(tmp_path)
    assert saved.card.class_names == ("tone 0", "tone 1", "tone 2")
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == [
        "epoch_0002",
        "epoch_0003",
        "real",
    ]
    for folder in (tmp_path / "samples").iterdir():
        sounds = sorted(folder.glob("*.wav"))
        assert [path.name for path in sounds] == [
            f"tone {label}_{number}.wav" for label in range(3) for number in (1, 2)
        ]
        for path in sounds:
            samples, rate = soundfile.read(path)
            assert rate == 8000 and len(samples) == 8000 and 0.001 < np.abs(samples).max() < 0.98
        assert (folder / "grid.png").stat().st_size > 1000


def test_it_learns_what_is_common_to_the_clips(shards: Path, tmp_path: Path) -> None:
    """After some hundred steps a drawn tone has its energy where the real ones have, class by class."""
    run_loop(
        gan_config(
            shards, tmp_path, epochs=6, epoch_steps=50, sample_every=6, penalty_weight=1.0, batch_size=12
        )
    )
    saved, t = load_generator(tmp_path), prepare(gan_config(shards, tmp_path), ALONE)
    band_of = []
    for label in range(3):
        real = (
            t.rows.mels[t.split.train[t.labels[t.split.train] == label]].astype(np.float32).mean(axis=(0, 2))
        )
        draws = train_gan.sample_latents(
            saved.card.model, t.rows.features.shape, 16, torch.Generator().manual_seed(label)
        )
        with torch.no_grad():
            drawn = saved.model(draws, torch.full((16,), label)).numpy().mean(axis=(0, 2))
        assert np.corrcoef(real, drawn)[0, 1] > 0.8
        band_of.append((int(real.argmax()), int(drawn.argmax())))
    assert all(abs(real - drawn) <= 1 for real, drawn in band_of)


def test_same_seed_same_weights_other_seed_others(shards: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run_loop(gan_config(shards, tmp_path / name, seed=seed))
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_broken_off_run_ends_with_the_weights_of_an_unbroken_one(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    whole = gan_config(shards, tmp_path / "whole", epochs=4, precision=precision)
    broken = gan_config(shards, tmp_path / "broken", epochs=4, precision=precision)
    run_loop(whole)
    real, calls = train_gan.train_step, []

    def dies(*args: object) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 8:  # in the middle of the third epoch
            raise KeyboardInterrupt
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(train_gan, "train_step", dies)
    with pytest.raises(KeyboardInterrupt):
        run_loop(broken)
    monkeypatch.setattr(train_gan, "train_step", real)
    assert Checkpoints(broken.run).read()[1]["epoch"] == 2  # type: ignore[index]
    run_loop(broken)
    assert same(weights(whole.run), weights(broken.run))
    ends = [Checkpoints(config.run).read() for config in (whole, broken)]
    for group in GROUPS:
        assert same(ends[0][0][group], ends[1][0][group])  # type: ignore[index]
    for name in ("ada_p", "lr_scale", "rollbacks", "step"):
        assert ends[0][1][name] == ends[1][1][name]  # type: ignore[index]


def _two(rank: int, rendezvous: str, config: TrainGanConfig) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    world = World.current(torch.device("cpu"))
    train_loop(config, world)
    # Each rank's own networks, which only rank 0 publishes.
    t = prepare(config, world)
    restore(t, *Checkpoints(config.run).read())  # type: ignore[misc]
    for number in range(2):
        train_step(t, t.split.train[number * 7 : number * 7 + 7], number)
    state = {
        name: value
        for model in (t.generator, t.discriminator)
        for name, value in model.state_dict(prefix=type(model).__name__).items()
    }
    torch.save(state, config.run / f"rank{rank}.pt")
    dist.destroy_process_group()


def test_two_workers_equal_one_and_each_other(shards: Path, tmp_path: Path) -> None:
    # An odd batch, so that the parts differ by a clip, and a long epsilon's way from sign flips of tiny gradients.
    changes: dict[str, object] = {
        "batch_size": 7,
        "epoch_steps": 4,
        "generator_lr": 1e-4,
        "discriminator_lr": 1e-4,
    }
    run_loop(gan_config(shards, tmp_path / "one", **changes))
    two = gan_config(shards, tmp_path / "two", **changes)
    two.run.mkdir()
    mp.start_processes(_two, (str(tmp_path / "rendezvous"), two), nprocs=2, start_method="spawn")
    ranks = [torch.load(two.run / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert same(*ranks)
    ends = [Checkpoints(tmp_path / name).read() for name in ("one", "two")]
    for group in ("generator", "discriminator", "ema"):
        for name, value in ends[0][0][group].items():  # type: ignore[index]
            torch.testing.assert_close(ends[1][0][group][name], value, rtol=1e-2, atol=5e-4, msg=name)  # type: ignore[index]
    for key in (
        "discriminator_loss",
        "generator_loss",
        "real_score",
        "fake_score",
        "penalty",
        "diversity",
        "augment_p",
    ):
        assert lines(tmp_path / "one")[-1][key] == pytest.approx(
            lines(tmp_path / "two")[-1][key], rel=1e-2, abs=1e-3
        ), key


@pytest.mark.parametrize("loss", ["relativistic", "hinge", "non-saturating"])
def test_a_step_of_each_network_is_that_of_its_loss(shards: Path, tmp_path: Path, loss: str) -> None:
    """Gradients are those that autograd gives for the written-out loss; the other network gets none."""
    config = gan_config(
        shards,
        tmp_path,
        loss=loss,
        class_weight=0.0,
        diversity_weight=0.0,
        penalty_weight=0.0,
        ada={"adapt": False, "p": 0.0},
    )
    t = prepare(config, ALONE)
    b = make_batch(t, t.split.train[:6], 0)
    j = discriminator_step(t, b)
    reference = prepare(config, ALONE)
    with torch.no_grad():
        drawn = reference.generator(b.latents[0], b.label_B)
    scores = [reference.discriminator(mel, b.label_B)[0] for mel in (b.real_BMT, drawn)]
    expected = discriminator_loss(loss, *scores)  # type: ignore[arg-type]
    expected.backward()
    assert float(j.loss) == pytest.approx(float(expected.detach()), rel=1e-5)
    for mine, theirs in zip(t.discriminator.parameters(), reference.discriminator.parameters(), strict=True):
        if theirs.grad is not None:
            torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-3, atol=1e-5)
    assert all(p.grad is None for p in t.generator.parameters())
    before = [None if p.grad is None else p.grad.clone() for p in t.discriminator.parameters()]
    g_loss = generator_step(t, b, j)
    drawn_B = reference.discriminator(reference.generator(b.latents[1], b.label_B), b.label_B)[0]
    expected = generator_loss(loss, drawn_B, j.real_B)  # type: ignore[arg-type]
    expected.backward()
    assert float(g_loss) == pytest.approx(float(expected.detach()), rel=1e-5)
    for mine, theirs in zip(t.generator.parameters(), reference.generator.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-3, atol=1e-5)
    for parameter, gradient in zip(t.discriminator.parameters(), before, strict=True):
        assert gradient is None or torch.equal(parameter.grad, gradient)  # type: ignore[arg-type]


def collapses(monkeypatch: pytest.MonkeyPatch, epochs: list[int]) -> None:
    """Makes the losses of some epochs, counted as they are tried, not finite."""
    real, tried = train_gan.train_epoch, []

    def spoilt(*args: object) -> dict[str, float]:
        tried.append(1)
        line = real(*args)  # type: ignore[arg-type]
        return line | {"generator_loss": math.nan} if len(tried) in epochs else line

    monkeypatch.setattr(train_gan, "train_epoch", spoilt)


def test_a_collapse_goes_back_to_the_last_good_checkpoint(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    collapses(monkeypatch, [3])
    result = run_loop(gan_config(shards, tmp_path, epochs=4))
    assert result["epochs"] == 4 and result["rollbacks"] == 1
    told = lines(tmp_path)
    assert [line["epoch"] for line in told] == [1, 2, 3, 4]
    assert "epoch 3 collapsed: generator loss is nan" in told[2]["collapse"] and "collapse" not in told[3]
    assert "back to epoch 2" in capsys.readouterr().out
    # From then on at half the rates.
    whole = gan_config(shards, tmp_path / "whole", epochs=4)
    monkeypatch.undo()
    run_loop(whole)
    assert told[3]["learning_rate"] == pytest.approx(lines(whole.run)[3]["learning_rate"] / 2)


def test_a_collapse_in_the_first_epoch_starts_anew(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collapses(monkeypatch, [1, 2])
    assert run_loop(gan_config(shards, tmp_path))["rollbacks"] == 2


def test_collapses_without_end_end_in_one_line(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collapses(monkeypatch, [2, 3, 4])
    with pytest.raises(
        UserError,
        match=r"epoch 2 collapsed: .*it is collapse 3, more than --max-rollbacks 2.*lower --generator-lr",
    ):
        run_loop(gan_config(shards, tmp_path, max_rollbacks=2))
    assert load_generator(tmp_path).card.training["epoch"] == 1


def test_a_generator_that_draws_one_clip_only_raises_the_alarm(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real thing: a generator whose latent no longer matters, in the middle of a run."""
    config = gan_config(shards, tmp_path, epochs=2, max_rollbacks=0, ema_decay=0.0)
    run_loop(config.model_copy(update={"epochs": 1}))
    real = train_gan.train_epoch

    def flattened(t: GanTraining, *args: object) -> dict[str, float]:
        line = real(t, *args)  # type: ignore[arg-type]
        with torch.no_grad():
            t.ema.model.mapping[0].weight[:, : config.gan.latent_dim] = 0
            t.ema.model.amount.weight.zero_()
            t.ema.model.amount.bias.fill_(-20.0)
        return line

    monkeypatch.setattr(train_gan, "train_epoch", flattened)
    with pytest.raises(UserError, match=r"drawn clips of a class differ by 0\.0% of what real ones do"):
        run_loop(config)


def test_adaptive_augmentation_follows_the_discriminator(shards: Path, tmp_path: Path) -> None:
    run_loop(gan_config(shards, tmp_path / "adapts", epochs=2, epoch_steps=8))
    run_loop(gan_config(shards, tmp_path / "stays", epochs=2, epoch_steps=8, ada={"adapt": False, "p": 0.3}))
    assert lines(tmp_path / "adapts")[-1]["augment_p"] != 0.2
    assert lines(tmp_path / "stays")[-1]["augment_p"] == 0.3


class TestBrokenInput:
    def test_one_class(self, tmp_path: Path) -> None:
        alone = write_shards(tmp_path, classes=1)
        with pytest.raises(UserError, match="training rows of fewer than two classes"):
            run_loop(gan_config(alone, tmp_path / "run"))

    def test_a_class_with_one_clip(
        self, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = gan_state.open_dataset

        def few(path: Path) -> ShardDataset:
            rows = real(path)
            keep = np.flatnonzero((rows.labels != 1) | (np.cumsum(rows.labels == 1) == 1))
            return ShardDataset(
                rows.features,
                rows.class_names,
                rows.table.iloc[keep].reset_index(drop=True),
                rows.mels[keep],
                rows.digest,
            )

        monkeypatch.setattr(gan_state, "open_dataset", few)
        with pytest.raises(
            UserError, match=r"class 'tone 1' has 1 training clips: a generator needs two or more"
        ):
            run_loop(gan_config(shards, tmp_path))

    def test_rows_of_nan(self, tmp_path: Path) -> None:
        broken = write_shards(tmp_path)
        for path in broken.glob("part-*.parquet"):
            table = pq.read_table(path, partitioning=None)
            mels = table.column("mel").to_pylist()
            mels[0] = np.full(len(mels[0]) // 2, np.nan, np.float16).tobytes()
            spoilt = table.set_column(table.column_names.index("mel"), "mel", [mels]).cast(table.schema)
            pq.write_table(spoilt, path)
        with pytest.raises(UserError, match=r"clip '.*' holds values that are no numbers: extract .* again"):
            run_loop(gan_config(broken, tmp_path / "run"))

    def test_more_workers_than_clips_of_a_step(self, shards: Path, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="--workers 9: more than the --batch-size 8"):
            t = prepare(gan_config(shards, tmp_path), ALONE)
            check_rows(t.rows, t.split, t.config, World(0, 9, torch.device("cpu")))
