"""The file that a training hands to prediction: weights, and all that is needed to use them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from models.classifier import Classifier, ClassifierConfig
from models.config import Config, ConfigError
from models.gan import GanConfig, Generator
from pipeline.audio.features import FeatureConfig
from pipeline.io.errors import UserError
from pipeline.io.files import write_text_atomically
from pipeline.training.checkpoint import load_metadata, load_tensors, save_tensors

FORMAT_VERSION = 1
MODEL_NAME = "model.safetensors"
C = TypeVar("C", bound="ModelMetadata")


class ModelMetadata(Config):
    """What weights belong to, whatever they are of."""

    format_version: int = FORMAT_VERSION
    kind: str
    features: FeatureConfig
    class_names: tuple[str, ...]
    training: dict[str, Any]
    """Epoch, validation figures and the resolved configuration."""


class ClassifierMetadata(ModelMetadata):
    """What a classifier's weights belong to."""

    kind: str = "classifier"
    model: ClassifierConfig


class GeneratorMetadata(ModelMetadata):
    """What a generator's weights belong to."""

    kind: str = "generator"
    model: GanConfig


@dataclass(frozen=True)
class SavedClassifier:
    """A classifier in evaluation mode, and its card."""

    model: Classifier
    card: ClassifierMetadata


@dataclass(frozen=True)
class SavedGenerator:
    """A generator in evaluation mode, and its card."""

    model: Generator
    card: GeneratorMetadata


def save_model(run: Path, model: nn.Module, card: ModelMetadata) -> None:
    """Writes `model.safetensors`, whose header holds the card, and `model.json` for people."""
    save_tensors(run / MODEL_NAME, model.state_dict(), card.to_dict())
    write_text_atomically(run / "model.json", json.dumps(card.to_dict(), indent=1, ensure_ascii=False))


def load_classifier(run: Path) -> SavedClassifier:
    """The classifier of a run.

    Raises:
        UserError: no such run, no model in it yet, another kind of model, or a damaged one.
    """
    tensors, card = _read(run, ClassifierMetadata, "train-classifier")
    model = Classifier(card.model, card.features.mel.n_mels, len(card.class_names))
    _fill(model, tensors, run)
    return SavedClassifier(model.eval(), card)


def load_generator(run: Path) -> SavedGenerator:
    """The generator of a run.

    Raises:
        UserError: no such run, no model in it yet, another kind of model, or a damaged one.
    """
    tensors, card = _read(run, GeneratorMetadata, "train-gan")
    model = Generator(card.model, card.features.shape, len(card.class_names))
    _fill(model, tensors, run)
    return SavedGenerator(model.eval(), card)


def generator_card(run: Path) -> GeneratorMetadata:
    """What a run's generator is, without its weights.

    Raises:
        UserError: as `load_generator`.
    """
    return _card(run, GeneratorMetadata, "train-gan", lambda path: ({}, load_metadata(path)))[1]


def model_kind(run: Path) -> str:
    """`classifier` or `generator`, or empty where the run has no model."""
    try:
        return str(json.loads((run / "model.json").read_text())["kind"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _read(run: Path, cls: type[C], command: str) -> tuple[dict[str, Tensor], C]:
    return _card(run, cls, command, load_tensors)


def _card(
    run: Path, cls: type[C], command: str, load: Callable[[Path], tuple[dict[str, Tensor], dict[str, Any]]]
) -> tuple[dict[str, Tensor], C]:
    path = run / MODEL_NAME
    kind = cls.model_fields["kind"].default
    if not run.is_dir():
        raise UserError(f"--run {run}: no such folder")
    if not path.is_file():
        raise UserError(f"--run {run}: no {MODEL_NAME} in it; train it with `melray {command} --run {run}`")
    tensors, metadata = load(path)
    if metadata.get("kind") != kind or metadata.get("format_version") != FORMAT_VERSION:
        raise UserError(f"{path} is not a {kind} of format {FORMAT_VERSION} (kind {metadata.get('kind')!r})")
    try:
        return tensors, cls.parse(metadata, str(path))
    except ConfigError as error:
        raise UserError(str(error)) from None


def _fill(model: nn.Module, tensors: dict[str, Tensor], run: Path) -> None:
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(
            f"{run / MODEL_NAME} does not fit its own card: {str(error).splitlines()[-1].strip()}"
        ) from None
