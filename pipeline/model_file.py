"""The file that a training hands to prediction: weights, and all that is needed to use them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.classifier import Classifier, ClassifierConfig
from models.config import Config, ConfigError
from pipeline.checkpoint import load_tensors, save_tensors
from pipeline.errors import UserError
from pipeline.features import FeatureConfig
from pipeline.files import write_text_atomically

FORMAT_VERSION = 1
MODEL_NAME = "model.safetensors"


class ModelCard(Config):
    """What the weights belong to."""

    format_version: int = FORMAT_VERSION
    kind: str = "classifier"
    model: ClassifierConfig
    features: FeatureConfig
    class_names: tuple[str, ...]
    training: dict[str, Any]
    """Epoch, validation figures and the resolved configuration."""


@dataclass(frozen=True)
class SavedClassifier:
    """A classifier in evaluation mode, and its card."""

    model: Classifier
    card: ModelCard


def save_classifier(run: Path, model: Classifier, card: ModelCard) -> None:
    """Writes `model.safetensors`, whose header holds the card, and `model.json` for people."""
    save_tensors(run / MODEL_NAME, model.state_dict(), card.values())
    write_text_atomically(run / "model.json", json.dumps(card.values(), indent=1, ensure_ascii=False))


def load_classifier(run: Path) -> SavedClassifier:
    """The classifier of a run.

    Raises:
        UserError: no such run, no model in it yet, or a damaged one.
    """
    path = run / MODEL_NAME
    if not run.is_dir():
        raise UserError(f"--run {run}: no such folder")
    if not path.is_file():
        raise UserError(f"--run {run}: no {MODEL_NAME} in it; train it with `melray train-classifier --run {run}`")
    tensors, metadata = load_tensors(path)
    if metadata.get("kind") != "classifier" or metadata.get("format_version") != FORMAT_VERSION:
        raise UserError(f"{path} is not a classifier of format {FORMAT_VERSION} (kind {metadata.get('kind')!r})")
    try:
        card = ModelCard.parse(metadata, str(path))
    except ConfigError as error:
        raise UserError(str(error)) from None
    model = Classifier(card.model, card.features.mel.n_mels, len(card.class_names))
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(f"{path} does not fit its own card: {str(error).splitlines()[-1].strip()}") from None
    return SavedClassifier(model.eval(), card)
