"""Training of networks of timm: weights of files, frozen stages, resume, and models without internet."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from models.config import ConfigError
from models.settings import ClassifierConfig
from pipeline.classifier.command_configs import EvaluateConfig
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.evaluate import evaluate
from pipeline.classifier.inference import predict_probabilities
from pipeline.classifier.prepare import prepare
from pipeline.classifier.train import begin_run
from pipeline.data.uncached import open_dataset_to_read
from pipeline.io.errors import UserError
from pipeline.training.model_file import load_classifier
from tests.helpers.classifier_training import interrupted_at, train_run
from tests.helpers.runs import SINGLE_WORKER, load_weights, tensors_equal
from tests.helpers.sounds import train_config
from tests.helpers.timm import needs_timm

pytestmark = pytest.mark.usefixtures("single_thread")
NAME = "test_resnet"


def timm_config(shards: Path, run: Path, name: str = NAME, **overrides: object) -> TrainClassifierConfig:
    network = {key: overrides.pop(key) for key in ("pretrained", "input") if key in overrides}
    model = ClassifierConfig(arch=f"timm:{name}", embedding_dim=16, **network)  # type: ignore[arg-type]
    return train_config(shards, run, **{"model": model, "epochs": 2} | overrides)


def weights_file(path: Path) -> dict[str, torch.Tensor]:
    """Save a network of color images and a thousand classes, as people download it; return its weights."""
    import timm

    torch.manual_seed(1)
    state: dict[str, torch.Tensor] = timm.create_model(NAME, num_classes=1000).state_dict()
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path)
    return state


def forbid_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm.models._builder as builder

    def download(*_: Any, **__: Any) -> None:
        raise AssertionError("weights are loaded from elsewhere")

    monkeypatch.setattr(builder, "load_pretrained", download)


@needs_timm
@pytest.mark.parametrize("name", [NAME, "test_vit", "test_convnext"])
def test_network_is_trained_saved_and_evaluated(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    forbid_downloads(monkeypatch)
    train_run(timm_config(shards, tmp_path, name))
    saved = load_classifier(tmp_path)
    assert saved.metadata.model.arch == f"timm:{name}"
    mels = open_dataset_to_read(shards).mels[np.arange(5)]
    probabilities = predict_probabilities(saved.model, mels)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert evaluate(EvaluateConfig(run=tmp_path))["clips"] == 6


@needs_timm
def test_resumed_timm_run_equals_uninterrupted(shards: Path, tmp_path: Path) -> None:
    train_run(timm_config(shards, tmp_path / "whole"))
    config = timm_config(shards, tmp_path / "parts")
    with interrupted_at(5):
        train_run(config)
    train_run(config)
    assert tensors_equal(load_weights(tmp_path / "whole"), load_weights(config.run))


@needs_timm
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_of_color_images_are_converted(shards: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    expected = weights_file(path)
    state = prepare(timm_config(shards, tmp_path / "run", init_from=path), SINGLE_WORKER)
    actual = state.model.state_dict()
    colors = [name for name in expected if expected[name].ndim == 4 and expected[name].shape[1] == 3]
    assert len(colors) == 1
    for name, value in expected.items():
        if name in colors:
            value = value.sum(dim=1, keepdim=True)
        if not name.startswith("fc."):
            torch.testing.assert_close(actual[f"backbone.model.{name}"], value, msg=name)
    assert state.initial_weights.startswith(f"weights of {path}; loaded: backbone.0, backbone.1,")
    assert state.initial_weights.endswith("; new: modulation, projection, head")


@needs_timm
def test_weights_of_color_images_fit_two_channels(shards: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    color = next(value for value in weights_file(path).values() if value.ndim == 4 and value.shape[1] == 3)
    config = timm_config(shards, tmp_path / "run", init_from=path, input="db+pcen", epochs=1)
    first = next(iter(prepare(config, SINGLE_WORKER).model.backbone.parameters()))  # type: ignore[union-attr]
    torch.testing.assert_close(first.data, 1.5 * color[:, :2])
    train_run(config)
    assert evaluate(EvaluateConfig(run=config.run))["clips"] == 6


@needs_timm
def test_frozen_stages_of_timm_do_not_change(shards: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    expected = weights_file(path)
    config = timm_config(shards, tmp_path / "run", init_from=path, freeze=3, stage_lr_factor=0.5)
    train_run(config)
    after = load_weights(config.run)
    for name, value in expected.items():
        if name.startswith(("layer1", "layer2", "bn1")):
            assert torch.equal(after[f"backbone.model.{name}"], value), name
    assert not torch.equal(
        after["backbone.model.layer4.0.bn1.running_mean"], expected["layer4.0.bn1.running_mean"]
    )
    missing = {name: value for name, value in expected.items() if not name.startswith("layer4")}
    torch.save(missing, tmp_path / "part.pth")
    state = prepare(timm_config(shards, tmp_path / "part", init_from=tmp_path / "part.pth"), SINGLE_WORKER)
    assert "; new: backbone.4 ('backbone.model.layer4." in state.initial_weights
    # A run of melray is continued too, and its stages are found by the same names.
    state = prepare(timm_config(shards, tmp_path / "next", init_from=config.run), SINGLE_WORKER)
    assert state.initial_weights.startswith(f"weights of {config.run}; loaded: backbone.0")
    assert "new" not in state.initial_weights


@needs_timm
def test_file_of_another_network_is_refused(shards: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    weights_file(path)
    with pytest.raises(UserError, match=r"^--init-from: timm:test_vit: none of the weights of .* fits$"):
        prepare(timm_config(shards, tmp_path / "run", "test_vit", init_from=path), SINGLE_WORKER)
    path.write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"^--init-from: .* weights cannot be loaded from ") as error:
        prepare(timm_config(shards, tmp_path / "run", init_from=path), SINGLE_WORKER)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"--init-from: .*cannot be loaded from .*missing.pth"):
        prepare(timm_config(shards, tmp_path / "run", init_from=tmp_path / "missing.pth"), SINGLE_WORKER)


@needs_timm
def test_failed_download_is_one_line(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        UserError, match=r"^--model.pretrained: timm:test_resnet: weights cannot be downloaded"
    ):
        prepare(timm_config(shards, tmp_path / "run", pretrained=True), SINGLE_WORKER)


@needs_timm
def test_model_needs_timm_in_one_line(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_run(timm_config(shards, tmp_path, epochs=1))
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"--model.arch timm:test_resnet needs timm .*melray\[timm\]"):
        load_classifier(tmp_path)


def test_missing_timm_leaves_no_run(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"needs timm .*pip install 'melray\[timm\]'"):
        begin_run(timm_config(shards, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_two_sets_of_initial_weights_are_refused(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--init-from and --model.pretrained: .* drop one"):
        timm_config(shards, tmp_path, pretrained=True, init_from=tmp_path)
    assert timm_config(shards, tmp_path, pretrained=True, freeze=2).freeze == 2
