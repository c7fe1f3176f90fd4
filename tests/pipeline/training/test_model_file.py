"""Model files: rebuilt from their metadata; others are refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from models.classifier import Classifier
from models.gan import GanConfig, Generator
from models.settings import FORMER_SETTINGS
from pipeline.data.shard_manifest import MANIFEST_NAME
from pipeline.io.errors import UserError
from pipeline.training.format_version import FORMAT_VERSION
from pipeline.training.model_file import (
    MODEL_NAME,
    ClassifierMetadata,
    GeneratorMetadata,
    load_classifier,
    load_generator,
    load_generator_metadata,
    model_kind,
    save_model,
)
from pipeline.training.run_folder import RunFolder
from pipeline.training.tensor_file import load_tensors, save_tensors
from tests.helpers.saved_classifier import small_network
from tests.helpers.sounds import SMALL_FEATURES

CLASS_NAMES = ("a", "b")
SETTINGS: dict[str, Any] = {"features": SMALL_FEATURES, "class_names": CLASS_NAMES, "training": {"epoch": 3}}
OLD_FORMAT = r"was written by melray < 0.2: train again in a new --run"


def save_classifier(run: Path) -> Classifier:
    model = small_network(len(CLASS_NAMES))
    save_model(run, model, ClassifierMetadata(model=model.config, **SETTINGS))
    return model


def save_generator(run: Path) -> Generator:
    config = GanConfig(latent_dim=8, style_dim=16, channels=(8, 16), patch=4)
    model = Generator(config, SMALL_FEATURES.shape, len(CLASS_NAMES))
    save_model(run, model, GeneratorMetadata(model=config, **SETTINGS))
    return model


def change_metadata(run: Path, **changes: Any) -> None:
    """Change values of a model's metadata; None removes a value."""
    tensors, metadata = load_tensors(run / MODEL_NAME)
    metadata = {key: value for key, value in {**metadata, **changes}.items() if value is not None}
    save_tensors(run / MODEL_NAME, tensors, metadata)


def test_classifier_of_before_modulation_and_texture_is_loaded(tmp_path: Path) -> None:
    model = small_network(len(CLASS_NAMES))
    config = model.config.model_copy(update=FORMER_SETTINGS)
    former = Classifier(config, SMALL_FEATURES.mel.n_mels, len(CLASS_NAMES)).eval()
    save_model(tmp_path, former, ClassifierMetadata(model=config, **SETTINGS))
    unknown = {name: value for name, value in config.to_dict().items() if name not in FORMER_SETTINGS}
    change_metadata(tmp_path, model=unknown)
    saved = load_classifier(tmp_path)
    assert saved.metadata.model == config
    assert saved.model.modulation is None and saved.model.texture is None
    mel_BMT = torch.randn(2, *SMALL_FEATURES.shape)
    torch.testing.assert_close(saved.model(mel_BMT), former(mel_BMT))


def test_classifier_is_loaded_unchanged(tmp_path: Path) -> None:
    model = save_classifier(tmp_path)
    saved = load_classifier(tmp_path)
    assert saved.metadata.format_version == 2 and saved.metadata.class_names == CLASS_NAMES
    assert not saved.model.training
    for name, value in model.state_dict().items():
        assert torch.equal(saved.model.state_dict()[name], value)


def test_thresholds_are_those_of_the_model_unless_given(tmp_path: Path) -> None:
    save_classifier(tmp_path)
    metadata = load_classifier(tmp_path).metadata.model_copy(update={"class_names": ("a", "b")})
    chosen = metadata.model_copy(update={"thresholds": (0.2, 0.7)})
    assert chosen.class_thresholds().tolist() == [0.2, 0.7]
    assert chosen.class_thresholds(0.4).tolist() == [0.4, 0.4]
    assert metadata.class_thresholds().tolist() == [0.5, 0.5]


def test_generator_is_loaded_unchanged(tmp_path: Path) -> None:
    model = save_generator(tmp_path)
    saved = load_generator(tmp_path)
    assert load_generator_metadata(tmp_path) == saved.metadata
    for name, value in model.state_dict().items():
        assert torch.equal(saved.model.state_dict()[name], value)


def test_readable_copy_holds_the_metadata(tmp_path: Path) -> None:
    assert model_kind(tmp_path) == ""
    save_classifier(tmp_path)
    assert json.loads((tmp_path / "model.json").read_text()) == load_tensors(tmp_path / MODEL_NAME)[1]
    assert model_kind(tmp_path) == "classifier"


def test_missing_model_error_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        load_classifier(tmp_path / "missing")
    with pytest.raises(UserError, match=r"no model.safetensors in it; train it with `melray train-gan --run"):
        load_generator(tmp_path)


def test_missing_model_error_names_the_folder_that_is_meant(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    save_classifier(tmp_path / "runs" / "second")
    save_classifier(tmp_path / "runs" / "first")
    with pytest.raises(UserError, match=r"give one of the runs in it, such as .*/runs/first$"):
        load_classifier(tmp_path / "runs")
    (tmp_path / MANIFEST_NAME).write_text("{}")
    with pytest.raises(UserError, match=r"it is a folder of shards: give the run that was trained on them$"):
        load_classifier(tmp_path)


def test_missing_model_error_names_the_command_that_the_run_was_started_with(tmp_path: Path) -> None:
    content = {"format_version": FORMAT_VERSION, "command": "train-gan"}
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"train it with `melray train-gan --run"):
        load_classifier(tmp_path)


def test_other_kind_of_model_is_refused(tmp_path: Path) -> None:
    save_classifier(tmp_path)
    with pytest.raises(UserError, match=r"^--run .* holds a classifier: give a run of `melray train-gan`$"):
        load_generator(tmp_path)
    change_metadata(tmp_path, kind=None)
    with pytest.raises(UserError, match="is not a model of melray"):
        load_classifier(tmp_path)


@pytest.mark.parametrize("version", [None, 1])
def test_model_of_old_format_is_refused(version: int | None, tmp_path: Path) -> None:
    save_classifier(tmp_path)
    change_metadata(tmp_path, format_version=version)
    with pytest.raises(UserError, match=rf"model.safetensors {OLD_FORMAT}"):
        load_classifier(tmp_path)


def test_model_of_newer_format_is_refused(tmp_path: Path) -> None:
    save_generator(tmp_path)
    change_metadata(tmp_path, format_version=3)
    with pytest.raises(UserError, match="has format version 3, this melray reads 2: update melray"):
        load_generator_metadata(tmp_path)


def test_model_in_run_of_old_format_is_refused(tmp_path: Path) -> None:
    save_generator(tmp_path)
    RunFolder(tmp_path).write_json("config.json", {"command": "train-gan", "config": {}})
    for load in (load_generator, load_generator_metadata):
        with pytest.raises(UserError, match=rf"config.json {OLD_FORMAT}"):
            load(tmp_path)


def test_weights_of_other_architecture_are_refused(tmp_path: Path) -> None:
    save_classifier(tmp_path)
    change_metadata(tmp_path, model={"channels": [16], "convs_per_block": 1, "embedding_dim": 8})
    with pytest.raises(UserError, match="does not match its own metadata"):
        load_classifier(tmp_path)
