"""GANs that start from the networks of another one: more epochs, other classes, other lengths, refusals."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from models.settings import GanConfig
from pipeline.classifier.train import begin_run, train_in_process
from pipeline.distributed.batch_job import run_in_process
from pipeline.extract import extract
from pipeline.gan.config import TrainGanConfig
from pipeline.gan.loop import train_loop
from pipeline.gan.state import GanTrainState, prepare, reset
from pipeline.gan.train import train_gan
from pipeline.io.errors import UserError
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.run import start_run
from tests.helpers.runs import SINGLE_WORKER, tensors_equal
from tests.helpers.sounds import extract_config, gan_config, train_config, write_tones

pytestmark = pytest.mark.usefixtures("single_thread")

STATISTICS = {"mel_mean_M", "mel_std_M"}


@pytest.fixture(scope="module")
def source(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a GAN for two epochs."""
    config = gan_config(shards, tmp_path_factory.mktemp("source") / "run")
    config.run.mkdir()
    start_run("train-gan", config)
    train_loop(config, SINGLE_WORKER)
    return config.run


def weights(state: GanTrainState, kind: str) -> dict[str, torch.Tensor]:
    tensors = getattr(state, kind).state_dict()
    return {name: value.clone() for name, value in tensors.items() if name not in STATISTICS}


def trained(source: Path, kind: str) -> dict[str, torch.Tensor]:
    checkpoint = Checkpoints(source).read()
    assert checkpoint is not None
    return {name: value for name, value in checkpoint.tensors[kind].items() if name not in STATISTICS}


def other_shards(folder: Path, rename: dict[str, str], **settings: object) -> Path:
    """Extract tones of renamed classes."""
    seconds = settings.get("seconds", 1.0)
    assert isinstance(seconds, float)
    data = write_tones(folder / "data", seconds=seconds)
    for old, new in rename.items():
        (data / "train" / old).rename(data / "train" / new)
    config = extract_config(data, folder / "shards", copies=0)
    features = config.features.model_copy(update=settings)
    extract(config.model_copy(update={"features": features}), run_in_process)
    return folder / "shards"


def test_more_epochs_start_from_both_networks(source: Path, shards: Path, tmp_path: Path) -> None:
    state = prepare(gan_config(shards, tmp_path / "run", init_from=source, seed=7), SINGLE_WORKER)
    for kind in ("generator", "discriminator"):
        assert tensors_equal(weights(state, kind), trained(source, kind))
    assert tensors_equal(state.ema.model.state_dict(), state.generator.state_dict())
    assert state.initial_note == f"networks of {source} after epoch 2" and state.step == 0


def test_collapse_in_first_epoch_returns_to_them(source: Path, shards: Path, tmp_path: Path) -> None:
    state = prepare(gan_config(shards, tmp_path / "run", init_from=source), SINGLE_WORKER)
    with torch.no_grad():
        for parameter in (*state.generator.parameters(), *state.discriminator.parameters()):
            parameter.zero_()
    reset(state)
    for kind in ("generator", "discriminator"):
        assert tensors_equal(weights(state, kind), trained(source, kind))


def test_resumed_run_does_not_start_again(source: Path, shards: Path, tmp_path: Path) -> None:
    whole = gan_config(shards, tmp_path / "whole", init_from=source)
    parts = whole.model_copy(update={"run": tmp_path / "parts"})
    for config in (whole, parts):
        config.run.mkdir()
        train_loop(config, SINGLE_WORKER)
    shutil.rmtree(parts.run / "checkpoints" / "epoch_0002")
    train_loop(parts, SINGLE_WORKER)
    for kind in ("generator", "discriminator"):
        assert tensors_equal(trained(parts.run, kind), trained(whole.run, kind))
        assert not tensors_equal(trained(parts.run, kind), trained(source, kind))


def test_resumed_run_no_longer_needs_the_other_gan(source: Path, shards: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(source, copy)
    config = gan_config(shards, tmp_path / "run", init_from=copy)
    config.run.mkdir()
    start_run("train-gan", config)
    train_loop(config, SINGLE_WORKER)
    shutil.rmtree(copy)
    shutil.rmtree(config.run / "checkpoints" / "epoch_0002")
    assert train_gan(config)["epochs"] == 2


def test_classes_are_matched_by_name(source: Path, tmp_path: Path) -> None:
    shards = other_shards(tmp_path, {"tone 0": "whistle", "tone 2": "a hum"})
    config = gan_config(shards, tmp_path / "run")
    random = prepare(config, SINGLE_WORKER)
    state = prepare(config.model_copy(update={"init_from": source}), SINGLE_WORKER)
    assert state.dataset.class_names == ("a hum", "tone 1", "whistle")
    for kind in ("generator", "discriminator"):
        for name, value in weights(state, kind).items():
            before = trained(source, kind)[name]
            if not name.startswith("class_"):
                assert torch.equal(value, before), name
                continue
            assert torch.equal(value[1], before[1]), name
            assert torch.equal(value[[0, 2]], weights(random, kind)[name][[0, 2]]), name
    assert state.initial_note.endswith("; new classes: 'a hum', 'whistle'")


def test_other_lengths_have_new_weights_where_they_matter(source: Path, tmp_path: Path) -> None:
    shards = other_shards(tmp_path, {}, seconds=2.0)
    state = prepare(gan_config(shards, tmp_path / "run", init_from=source), SINGLE_WORKER)
    new = {"from_style.weight", "from_style.bias", "pool_weight"}
    for kind in ("generator", "discriminator"):
        before = trained(source, kind)
        same = {
            name
            for name, value in weights(state, kind).items()
            if value.shape == before[name].shape and torch.equal(value, before[name])
        }
        assert weights(state, kind).keys() - same <= new
    assert "; trained on clips with seconds = 1.0 (--shards has 2.0); new weights: " in state.initial_note
    for name in ("generator.from_style.weight", "discriminator.pool_weight"):
        assert name in state.initial_note


def test_other_widths_are_refused(source: Path, shards: Path, tmp_path: Path) -> None:
    gan = GanConfig(latent_dim=8, style_dim=24, channels=(12, 20), patch=2)
    with pytest.raises(UserError, match=r"^--init-from .*: no convolution of its generator fits --gan\.\*$"):
        prepare(gan_config(shards, tmp_path / "run", init_from=source, gan=gan), SINGLE_WORKER)


class TestRefusedBeforeTheRunBegins:
    def refuse(self, config: TrainGanConfig, message: str) -> None:
        with pytest.raises(UserError, match=message):
            train_gan(config)
        assert not config.run.exists()

    def test_model_file(self, source: Path, shards: Path, tmp_path: Path) -> None:
        config = gan_config(shards, tmp_path / "run", init_from=source / "model.safetensors")
        self.refuse(
            config, r"--init-from .*model\.safetensors: give the folder of a GAN, whose checkpoints hold"
        )

    def test_classifier(self, shards: Path, tmp_path: Path) -> None:
        config = train_config(shards, tmp_path / "classifier", epochs=1)
        begin_run(config)
        train_in_process(config)
        config = gan_config(shards, tmp_path / "run", init_from=config.run)
        self.refuse(config, r"^--init-from .* holds a classifier: give a run of `melray train-gan`$")

    def test_other_widths(self, source: Path, shards: Path, tmp_path: Path) -> None:
        gan = GanConfig(latent_dim=8, style_dim=24, channels=(12, 20), patch=2)
        config = gan_config(shards, tmp_path / "run", init_from=source, gan=gan)
        self.refuse(config, r"^--init-from .*: no convolution of its generator fits --gan\.\*$")

    def test_without_checkpoints(self, source: Path, shards: Path, tmp_path: Path) -> None:
        shutil.copytree(source, tmp_path / "copy", ignore=shutil.ignore_patterns("checkpoints"))
        config = gan_config(shards, tmp_path / "run", init_from=tmp_path / "copy")
        self.refuse(
            config, r"--init-from .*copy: no checkpoint in it, and model\.safetensors does not hold the"
        )

    def test_missing_folder(self, shards: Path, tmp_path: Path) -> None:
        config = gan_config(shards, tmp_path / "run", init_from=tmp_path / "nowhere")
        self.refuse(config, r"^--init-from .*nowhere: no such folder$")

    def test_trained_on_held_out_clips(self, source: Path, shards: Path, tmp_path: Path) -> None:
        config = gan_config(shards, tmp_path / "run", init_from=source, fold=1, val_fraction=0.0)
        self.refuse(config, r"^--init-from .*run was trained on \d+ of the 6 clips")
