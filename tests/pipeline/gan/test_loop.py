"""Training loop of the GAN, without a cluster: losses, workers, resuming, rollbacks, checks of the data."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch

from models.gan import Latents, sample_latents
from models.gan_losses import discriminator_loss, diversity_loss, generator_loss
from pipeline.data.dataset import ShardDataset
from pipeline.distributed.batch_job import run_in_process
from pipeline.extract import ExtractConfig, extract
from pipeline.gan import loop
from pipeline.gan import state as gan_state
from pipeline.gan.config import TrainGanConfig
from pipeline.gan.data_checks import check_rows
from pipeline.gan.loop import train_loop, update_best
from pipeline.gan.rollback import sample_diversity
from pipeline.gan.state import GanTrainState, prepare, restore
from pipeline.gan.step import discriminator_step, generator_step, make_batch, plan_step, train_step
from pipeline.io.errors import UserError
from pipeline.training import placement
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.model_file import load_generator
from pipeline.training.progress import TrainingProgress, epoch_line
from pipeline.training.run_folder import RunFolder
from pipeline.training.world import World
from tests.helpers.ranks import run_ranks
from tests.helpers.runs import SINGLE_WORKER, load_weights, tensors_equal
from tests.helpers.sounds import RATE, SMALL_FEATURES, gan_config, tone, write_shards

TENSOR_GROUPS = ("generator", "discriminator", "ema", "generator_optimizer", "discriminator_optimizer")

pytestmark = pytest.mark.usefixtures("single_thread")


def run_loop(config: TrainGanConfig) -> dict:
    config.run.mkdir(parents=True, exist_ok=True)
    return train_loop(config, SINGLE_WORKER)


def read_metrics(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def read_checkpoint(run: Path) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, Any]]:
    checkpoint = Checkpoints(run).read()
    assert checkpoint is not None
    return checkpoint


def test_run_writes_model_log_audio_and_images(shards: Path, tmp_path: Path) -> None:
    result = run_loop(gan_config(shards, tmp_path, epochs=3, sample_every=2, samples_per_class=2))
    assert result["epochs"] == 3 and result["best_epoch"] == 3
    assert [metrics["epoch"] for metrics in read_metrics(tmp_path)] == [1, 2, 3]
    assert any((tmp_path / "tensorboard").iterdir())
    saved = load_generator(tmp_path)
    assert saved.metadata.class_names == ("tone 0", "tone 1", "tone 2")
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == [
        "epoch_0002",
        "epoch_0003",
        "real",
    ]
    for folder in (tmp_path / "samples").iterdir():
        paths = sorted(folder.glob("*.wav"))
        assert [path.name for path in paths] == [
            f"tone {label}_{number}.wav" for label in range(3) for number in (1, 2)
        ]
        for path in paths:
            samples, sample_rate = soundfile.read(path)
            assert sample_rate == 8000 and len(samples) == 8000 and 0.001 < np.abs(samples).max() < 0.98
        assert (folder / "grid.png").stat().st_size > 1000


def test_generated_spectra_match_real_ones_by_class(shards: Path, tmp_path: Path) -> None:
    """After a few hundred steps, generated tones have their energy in the mel band of real ones."""
    run_loop(
        gan_config(
            shards, tmp_path, epochs=10, epoch_steps=50, sample_every=10, penalty_weight=1.0, batch_size=12
        )
    )
    saved, state = load_generator(tmp_path), prepare(gan_config(shards, tmp_path), SINGLE_WORKER)
    peak_bands = []
    for label in range(3):
        rows = state.split.train[state.labels[state.split.train] == label]
        real = state.dataset.mels[rows].astype(np.float32).mean(axis=(0, 2))
        latents = sample_latents(
            saved.metadata.model, state.dataset.features.shape, 16, torch.Generator().manual_seed(label)
        )
        with torch.no_grad():
            fake = saved.model(latents, torch.full((16,), label)).numpy().mean(axis=(0, 2))
        assert np.corrcoef(real, fake)[0, 1] > 0.8
        peak_bands.append((int(real.argmax()), int(fake.argmax())))
    assert all(abs(real - fake) <= 1 for real, fake in peak_bands)


def test_weights_depend_on_seed_only(shards: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run_loop(gan_config(shards, tmp_path / name, seed=seed))
    assert tensors_equal(load_weights(tmp_path / "a"), load_weights(tmp_path / "b"))
    assert not tensors_equal(load_weights(tmp_path / "a"), load_weights(tmp_path / "c"))


def test_run_killed_between_checkpoint_and_model_has_the_model_of_the_checkpoint(
    shards: Path, tmp_path: Path
) -> None:
    uninterrupted, killed = (
        gan_config(shards, tmp_path / name, epochs=3, sample_every=1) for name in ("uninterrupted", "killed")
    )
    run_loop(uninterrupted)
    original, calls = gan_state.save_current_model, []

    def kill(state: GanTrainState) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        original(state)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(gan_state, "save_current_model", kill)
        run_loop(killed)
    assert read_checkpoint(killed.run)[1]["epoch"] == 2
    assert load_generator(killed.run).metadata.training["epoch"] == 1
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "train_epoch", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        run_loop(killed)
    assert load_generator(killed.run).metadata.training["epoch"] == 2
    assert run_loop(killed)["best_epoch"] == load_generator(killed.run).metadata.training["epoch"] == 3
    assert tensors_equal(load_weights(uninterrupted.run), load_weights(killed.run))


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.slow)])
def test_resumed_run_equals_uninterrupted_run(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    uninterrupted = gan_config(shards, tmp_path / "uninterrupted", epochs=4, precision=precision)
    interrupted = gan_config(shards, tmp_path / "interrupted", epochs=4, precision=precision)
    run_loop(uninterrupted)
    original_step, calls = loop.train_step, []

    def interrupted_step(*args: object) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 8:  # in the middle of the third epoch
            raise KeyboardInterrupt
        return original_step(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "train_step", interrupted_step)
    with pytest.raises(KeyboardInterrupt):
        run_loop(interrupted)
    monkeypatch.setattr(loop, "train_step", original_step)
    assert read_checkpoint(interrupted.run)[1]["epoch"] == 2
    run_loop(interrupted)
    assert tensors_equal(load_weights(uninterrupted.run), load_weights(interrupted.run))
    (tensors_a, values_a), (tensors_b, values_b) = map(read_checkpoint, (uninterrupted.run, interrupted.run))
    for group in TENSOR_GROUPS:
        assert tensors_equal(tensors_a[group], tensors_b[group])
    for name in ("ada_p", "lr_scale", "rollbacks", "step"):
        assert values_a[name] == values_b[name]


def _train_on_rank(world: World, config: TrainGanConfig) -> None:
    train_loop(config, world)
    # The networks of each rank: a checkpoint holds those of rank 0 only.
    state = prepare(config, world)
    restore(state, *read_checkpoint(config.run))
    for number in range(2):
        train_step(state, plan_step(state, state.split.train[number * 7 : number * 7 + 7], number))
    tensors = {
        name: value
        for model in (state.generator, state.discriminator)
        for name, value in model.state_dict(prefix=type(model).__name__).items()
    }
    torch.save(tensors, config.run / f"rank{world.rank}.pt")


@pytest.mark.slow
def test_two_workers_equal_one_and_each_other(shards: Path, tmp_path: Path) -> None:
    # An odd batch size, so that the slices differ by a clip; low learning rates, so that rounding errors that
    # flip the signs of tiny gradients have little effect through Adam.
    changes: dict[str, object] = {
        "batch_size": 7,
        "epoch_steps": 4,
        "generator_lr": 1e-4,
        "discriminator_lr": 1e-4,
    }
    run_loop(gan_config(shards, tmp_path / "one", **changes))
    config = gan_config(shards, tmp_path / "two", **changes)
    config.run.mkdir()
    run_ranks(_train_on_rank, 2, tmp_path / "rendezvous", config)
    assert tensors_equal(*(torch.load(config.run / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)))
    single, double = (read_checkpoint(tmp_path / name)[0] for name in ("one", "two"))
    for group in ("generator", "discriminator", "ema"):
        for name, value in single[group].items():
            torch.testing.assert_close(double[group][name], value, rtol=1e-2, atol=5e-4, msg=name)
    for key in (
        "discriminator_loss",
        "generator_loss",
        "real_score",
        "fake_score",
        "penalty",
        "diversity",
        "augment_p",
    ):
        expected = read_metrics(tmp_path / "two")[-1][key]
        assert read_metrics(tmp_path / "one")[-1][key] == pytest.approx(expected, rel=1e-2, abs=1e-3), key


@pytest.mark.parametrize("loss", ["relativistic", "hinge", "non-saturating"])
def test_step_gradients_equal_those_of_loss(shards: Path, tmp_path: Path, loss: str) -> None:
    """Gradients equal those of autograd for the loss written out; the other network gets none."""
    config = gan_config(
        shards,
        tmp_path,
        loss=loss,
        class_weight=0.0,
        diversity_weight=0.0,
        penalty_weight=0.0,
        ada={"adapt": False, "p": 0.0},
    )
    state, reference = prepare(config, SINGLE_WORKER), prepare(config, SINGLE_WORKER)
    plan = plan_step(state, state.split.train[:6], 0)
    batch = make_batch(state, plan, plan.inputs)
    d_out = discriminator_step(state, batch)
    with torch.no_grad():
        fake = reference.generator(batch.latents[0], batch.label_B)
    scores = [reference.discriminator(mel, batch.label_B)[0] for mel in (batch.real_BMT, fake)]
    expected = discriminator_loss(loss, *scores)  # type: ignore[arg-type]
    expected.backward()
    assert float(d_out.loss) == pytest.approx(float(expected.detach()), rel=1e-5)
    pairs = zip(state.discriminator.parameters(), reference.discriminator.parameters(), strict=True)
    for parameter, reference_parameter in pairs:
        if reference_parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, reference_parameter.grad, rtol=1e-3, atol=1e-5)
    assert all(parameter.grad is None for parameter in state.generator.parameters())
    d_grads = [None if p.grad is None else p.grad.clone() for p in state.discriminator.parameters()]
    g_loss = generator_step(state, batch, d_out)
    fake = reference.generator(batch.latents[1], batch.label_B)
    fake_score_B = reference.discriminator(fake, batch.label_B)[0]
    expected = generator_loss(loss, fake_score_B, d_out.real_score_B)  # type: ignore[arg-type]
    expected.backward()
    assert float(g_loss) == pytest.approx(float(expected.detach()), rel=1e-5)
    pairs = zip(state.generator.parameters(), reference.generator.parameters(), strict=True)
    for parameter, reference_parameter in pairs:
        torch.testing.assert_close(parameter.grad, reference_parameter.grad, rtol=1e-3, atol=1e-5)
    for parameter, grad in zip(state.discriminator.parameters(), d_grads, strict=True):
        assert grad is None or torch.equal(parameter.grad, grad)  # type: ignore[arg-type]


def collapse_generator(state: GanTrainState) -> None:
    """Make the generator ignore its latents, except for strong texture."""
    with torch.no_grad():
        for model in (state.generator, state.ema.model):
            model.from_style.weight.zero_()
            for name, parameter in model.named_parameters():
                if "film" in name:
                    parameter.zero_()
            model.noise_strength.bias.fill_(5.0)


def test_texture_does_not_hide_collapse(shards: Path, tmp_path: Path) -> None:
    """Neither from the alarm nor from the diversity loss: clips that differ by noise alone are equal."""
    state = prepare(gan_config(shards, tmp_path, diversity_weight=1.0), SINGLE_WORKER)
    collapse_generator(state)
    assert sample_diversity(state) == pytest.approx(0.0, abs=1e-6)
    plan = plan_step(state, state.split.train[:6], 0)
    batch = make_batch(state, plan, plan.inputs)
    assert not torch.equal(batch.latents[0].z_BZ, batch.latents[1].z_BZ)
    fakes = [state.generator(latents, batch.label_B) for latents in batch.latents]
    loss = diversity_loss(*fakes, state.generator.mel_std_M, state.real_difference_C[batch.label_B])
    assert float(loss.detach()) == pytest.approx(1.0)
    # The texture itself is there: with other noise, clips of one latent vector differ.
    noise_BMT = batch.latents[0].noise_BMT
    other = state.generator(Latents(batch.latents[0].z_BZ, noise_BMT.roll(1, 0)), batch.label_B)
    assert float((other - fakes[0]).detach().abs().mean()) > 1.0


@pytest.mark.parametrize("epochs", [1, 2])
def test_warmup_longer_than_training_is_refused(shards: Path, tmp_path: Path, epochs: int) -> None:
    config = gan_config(shards, tmp_path, epochs=epochs, warmup_steps=100_000)
    with pytest.raises(UserError, match=r"--warmup-steps 100000 is longer than the training \(\d+ steps\)"):
        prepare(config, SINGLE_WORKER)


def collapse_in(monkeypatch: pytest.MonkeyPatch, epochs: list[int]) -> None:
    """Make the generator loss of some epochs NaN; epochs are counted from 1 in the order of attempts."""
    original_epoch, attempts = loop.train_epoch, []

    def collapsing_epoch(*args: object) -> dict[str, float]:
        attempts.append(1)
        metrics = original_epoch(*args)  # type: ignore[arg-type]
        return metrics | {"generator_loss": math.nan} if len(attempts) in epochs else metrics

    monkeypatch.setattr(loop, "train_epoch", collapsing_epoch)


def test_collapse_rolls_back_to_last_good_checkpoint(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    collapse_in(monkeypatch, [3])
    with caplog.at_level("INFO", logger="melray"):
        result = run_loop(gan_config(shards, tmp_path, epochs=4))
    assert result["epochs"] == 4 and result["rollbacks"] == 1
    history = read_metrics(tmp_path)
    assert [metrics["epoch"] for metrics in history] == [1, 2, 3, 4]
    assert history[2]["collapse"] == "epoch 3 collapsed (generator loss is nan)"
    assert "collapse" not in history[3]
    assert "rolled back to epoch 2, learning rates divided by 2" in caplog.text
    stable = gan_config(shards, tmp_path / "stable", epochs=4)
    monkeypatch.undo()
    run_loop(stable)
    assert history[3]["learning_rate"] == pytest.approx(read_metrics(stable.run)[3]["learning_rate"] / 2)


def test_collapse_in_first_epoch_restarts_training(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collapse_in(monkeypatch, [1, 2])
    assert run_loop(gan_config(shards, tmp_path))["rollbacks"] == 2


def test_too_many_collapses_end_training(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collapse_in(monkeypatch, [2, 3, 4])
    with pytest.raises(
        UserError,
        match=r"epoch 2 collapsed \(.*\); exceeded --max-rollbacks 2: lower --generator-lr",
    ):
        run_loop(gan_config(shards, tmp_path, max_rollbacks=2))
    assert load_generator(tmp_path).metadata.training["epoch"] == 1


def test_loss_of_diversity_is_detected(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A generator that stops using its latents in the middle of a run."""
    config = gan_config(shards, tmp_path, epochs=2, max_rollbacks=0, ema_decay=0.0)
    run_loop(config.model_copy(update={"epochs": 1}))
    original_epoch = loop.train_epoch

    def collapsing_epoch(state: GanTrainState, *args: object) -> dict[str, float]:
        metrics = original_epoch(state, *args)  # type: ignore[arg-type]
        with torch.no_grad():
            state.ema.model.mapping[0].weight[:, : config.gan.latent_dim] = 0
            state.ema.model.noise_strength.weight.zero_()
            state.ema.model.noise_strength.bias.fill_(-20.0)
        return metrics

    monkeypatch.setattr(loop, "train_epoch", collapsing_epoch)
    with pytest.raises(UserError, match=r"within-class diversity fell to 0\.0% of real clips"):
        run_loop(config)


@pytest.mark.parametrize("steps", [3, 8])  # between two updates of the probability: 8
def test_augmentation_probability_adapts_or_stays(shards: Path, tmp_path: Path, steps: int) -> None:
    run_loop(gan_config(shards, tmp_path / "adaptive", epoch_steps=steps, penalty_interval=100))
    run_loop(gan_config(shards, tmp_path / "fixed", epoch_steps=steps, ada={"adapt": False, "p": 0.3}))
    assert read_metrics(tmp_path / "adaptive")[-1]["augment_p"] != 0.2
    assert read_metrics(tmp_path / "fixed")[-1]["augment_p"] == 0.3


class TestUnusableData:
    def test_class_with_single_clip(
        self, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        original_open = placement.open_dataset

        def open_reduced(path: Path, *_: Any) -> ShardDataset:
            dataset = original_open(path)
            keep = np.flatnonzero((dataset.labels != 1) | (np.cumsum(dataset.labels == 1) == 1))
            return ShardDataset(
                dataset.features,
                dataset.class_names,
                dataset.table.iloc[keep].reset_index(drop=True),
                dataset.mels[keep],
                dataset.digest,
            )

        monkeypatch.setattr(placement, "open_dataset", open_reduced)
        with pytest.raises(
            UserError,
            match=r"class 'tone 1' has too few training clips \(1\): a GAN needs at least 2 per class",
        ):
            run_loop(gan_config(shards, tmp_path))

    def test_nan_in_spectrograms(self, tmp_path: Path) -> None:
        damaged = write_shards(tmp_path)
        for path in damaged.glob("part-*.parquet"):
            table = pq.read_table(path, partitioning=None)
            mels = table.column("mel").to_pylist()
            mels[0] = np.full(len(mels[0]) // 2, np.nan, np.float16).tobytes()
            column = table.column_names.index("mel")
            pq.write_table(table.set_column(column, "mel", [mels]).cast(table.schema), path)
        with pytest.raises(UserError, match=r"clip '.*' contains NaN or infinite values: extract .* again"):
            run_loop(gan_config(damaged, tmp_path / "run"))

    def test_more_workers_than_clips_in_batch(self, shards: Path, tmp_path: Path) -> None:
        state = prepare(gan_config(shards, tmp_path), SINGLE_WORKER)
        with pytest.raises(UserError, match="--workers 9 exceeds --batch-size 8: each worker needs"):
            check_rows(state.dataset, state.split, state.config, workers=9)

    def test_more_workers_than_clips_of_small_dataset(self, shards: Path, tmp_path: Path) -> None:
        """Batches of 18 and 19 clips, of which a 20th worker would have none."""
        config = gan_config(shards, tmp_path, batch_size=24, val_fraction=0.0)
        state = prepare(config, SINGLE_WORKER)
        assert len(state.split.train) == 30
        check_rows(state.dataset, state.split, config, workers=15)
        with pytest.raises(UserError, match="--workers 16: too many workers for 30 training clips"):
            check_rows(state.dataset, state.split, config, workers=16)


def write_class(folder: Path, name: str, clips: list[np.ndarray]) -> None:
    (folder / name).mkdir(parents=True)
    for number, samples in enumerate(clips):
        soundfile.write(folder / name / f"{number}.wav", samples, RATE)


def extract_classes(folder: Path, **classes: list[np.ndarray]) -> Path:
    for name, clips in classes.items():
        write_class(folder / "data", name, clips)
    config = ExtractConfig(data=folder / "data", out=folder / "shards", copies=0, features=SMALL_FEATURES)
    extract(config, run_in_process)
    return folder / "shards"


SILENCE = [np.zeros(RATE, np.float32)] * 4
COPIES = [tone(440)] * 4
VARIED = [tone(300 + 20 * i, seed=i) for i in range(6)]


class TestDataWithoutVariety:
    """Silence and copies train to the end, without rollbacks, into metrics that are defined or None."""

    def test_diversity_is_undefined_without_varied_class(self, tmp_path: Path) -> None:
        shards = extract_classes(tmp_path, silence=SILENCE, copies=COPIES)
        result = run_loop(gan_config(shards, tmp_path / "run", epochs=3, val_fraction=0.0))
        assert result["rollbacks"] == 0 and result["epochs"] == 3
        assert [metrics["diversity"] for metrics in read_metrics(tmp_path / "run")] == [None] * 3
        for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines():
            json.loads(line, parse_constant=lambda value: pytest.fail(value))
        assert ", diversity" not in epoch_line(read_metrics(tmp_path / "run")[0])

    def test_diversity_is_that_of_varied_classes(self, tmp_path: Path) -> None:
        shards = extract_classes(tmp_path, silence=SILENCE, copies=COPIES, tones=VARIED)
        state = prepare(gan_config(shards, tmp_path / "run", val_fraction=0.0), SINGLE_WORKER)
        assert state.real_difference_C[:2].tolist() == [0.0, 0.0] and state.real_difference_C[2] > 0
        tones = state.dataset.mels[state.dataset.labels == 2].astype(np.float32)
        assert state.real_diversity[2] == pytest.approx(float(tones.std(axis=0, ddof=1).mean()))
        generated = state.snapshots.diversity(state.ema.model, state.world.device)
        assert sample_diversity(state) == pytest.approx(generated[2] / state.real_diversity[2])
        run_loop(state.config.model_copy(update={"run": tmp_path / "run"}))

    def test_class_with_all_clips_elsewhere_is_explained(self, tmp_path: Path) -> None:
        shards = extract_classes(tmp_path, single=[tone(440), tone(660)], tones=VARIED)
        with pytest.raises(
            UserError, match=r"class 'single' has too few training clips \(1, 1 for validation\)"
        ):
            run_loop(gan_config(shards, tmp_path / "run", val_fraction=0.2))


def test_rollback_reaches_console_of_the_command(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """By a file of the run: the log of a worker on another node does not reach the command."""
    collapse_in(monkeypatch, [2])
    progress = TrainingProgress({"gan": RunFolder(tmp_path)})
    run_loop(gan_config(shards, tmp_path, epochs=2))
    caplog.clear()
    with caplog.at_level("INFO", logger="melray"), progress:
        pass
    note = "epoch 2 collapsed (generator loss is nan); rolled back to epoch 1, learning rates divided by 2"
    assert f"gan: {note}" in caplog.text
    caplog.clear()
    with caplog.at_level("INFO", logger="melray"), TrainingProgress({"gan": RunFolder(tmp_path)}):
        pass
    assert note not in caplog.text  # of an earlier command


@pytest.mark.parametrize(("monitor", "best"), [("frechet", 3), ("class_accuracy", 2)])
def test_best_epoch_is_chosen_by_the_monitored_score(
    shards: Path, tmp_path: Path, monitor: str, best: int
) -> None:
    state = prepare(gan_config(shards, tmp_path, monitor=monitor), SINGLE_WORKER)
    scores = [(60.0, 0.7), (40.0, 0.95), (35.0, 0.95), (35.0, 0.8)]
    for state.epoch, (frechet, accuracy) in enumerate(scores, start=1):
        improved = update_best(state, {"frechet": frechet, "class_accuracy": accuracy}, sampled=True)
        assert improved == (state.best_epoch == state.epoch)
    assert state.best_epoch == best
