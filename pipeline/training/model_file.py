"""Model files: weights for inference, with the metadata needed to use them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from models.classifier import Classifier, ClassifierConfig
from models.config import Config, ConfigError
from models.gan import GanConfig, Generator
from models.multi_label_metrics import DEFAULT_THRESHOLD
from models.settings import FORMER_SETTINGS
from pipeline.audio.features import FeatureConfig
from pipeline.data.shard_manifest import MANIFEST_NAME
from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.files import write_text_atomically
from pipeline.training.format_version import FORMAT_VERSION, check_format_version
from pipeline.training.run_folder import RunFolder
from pipeline.training.tensor_file import load_metadata, load_tensors, save_tensors

MODEL_NAME = "model.safetensors"
METADATA_NAME = "model.json"
M = TypeVar("M", bound="ModelMetadata")
N = TypeVar("N", bound=nn.Module)


class ModelMetadata(Config):
    """Metadata of saved weights, needed to rebuild the network and compute its input."""

    format_version: int = FORMAT_VERSION
    kind: str
    features: FeatureConfig
    class_names: tuple[str, ...]
    training: dict[str, Any]
    """Epoch, its metrics, and the resolved configuration of the run."""


class ClassifierMetadata(ModelMetadata):
    """Metadata of a classifier."""

    kind: str = "classifier"
    model: ClassifierConfig
    temperature: float = Field(1.0, gt=0)
    """Divisor of the logits that calibrates probabilities, fitted on the validation clips; 1 without any."""
    multi_label: bool = False
    """Whether a clip has any number of classes, so that each has a probability of its own (sigmoid)."""
    thresholds: tuple[float, ...] | None = None
    """Of a multi-label model: probability from which on each class counts as present, chosen on the
    validation clips; None is 0.5 for all."""

    def class_thresholds(self, requested: float | None = None) -> np.ndarray:
        """Return the probability from which on each class is present `[shape=(C,)]`, float64.

        `requested` is that of the user for all classes; without one those of the model are used.
        """
        if requested is None and self.thresholds is not None:
            return np.array(self.thresholds)
        return np.full(len(self.class_names), DEFAULT_THRESHOLD if requested is None else requested)


class GeneratorMetadata(ModelMetadata):
    """Metadata of a generator."""

    kind: str = "generator"
    model: GanConfig


@dataclass(frozen=True)
class SavedClassifier:
    """A classifier in evaluation mode, with its metadata."""

    model: Classifier
    metadata: ClassifierMetadata


@dataclass(frozen=True)
class SavedGenerator:
    """A generator in evaluation mode, with its metadata."""

    model: Generator
    metadata: GeneratorMetadata


def save_model(run: Path, model: nn.Module, metadata: ModelMetadata) -> None:
    """Write `model.safetensors`, whose header holds the metadata, and `model.json`, its readable copy."""
    save_tensors(run / MODEL_NAME, model.state_dict(), metadata.to_dict())
    write_text_atomically(run / METADATA_NAME, json.dumps(metadata.to_dict(), indent=1, ensure_ascii=False))


def load_classifier(run: Path, flag: str = "--run") -> SavedClassifier:
    """Load the classifier of a run, which errors name with the flag that it was given by.

    Raises:
        UserError: no such run, no model in it yet, another kind of model, another format, or a damaged file.
    """
    tensors, metadata = _read(run, ClassifierMetadata, "train-classifier", load_tensors, flag)
    model = create_classifier(
        metadata.model, metadata.features.mel.n_mels, len(metadata.class_names), metadata.multi_label
    )
    _load_weights(model, tensors, run)
    model.temperature = metadata.temperature
    return SavedClassifier(_for_inference(model), metadata)


def create_classifier(
    config: ClassifierConfig, n_mels: int, num_classes: int, multi_label: bool
) -> Classifier:
    """Build a classifier with random weights; arguments as `Classifier`.

    Raises:
        UserError: a network of timm that it cannot build.
    """
    try:
        return Classifier(config, n_mels, num_classes, multi_label)
    except ConfigError as error:
        raise UserError(str(error)) from None


def load_generator(run: Path) -> SavedGenerator:
    """Load the generator of a run.

    Raises:
        UserError: as `load_classifier`.
    """
    tensors, metadata = _read(run, GeneratorMetadata, "train-gan", load_tensors)
    model = Generator(metadata.model, metadata.features.shape, len(metadata.class_names))
    _load_weights(model, tensors, run)
    return SavedGenerator(_for_inference(model), metadata)


def load_generator_metadata(run: Path, flag: str = "--run") -> GeneratorMetadata:
    """Load the metadata of a run's generator without its weights; errors name the flag of the run.

    Raises:
        UserError: as `load_generator`.
    """
    return _read(run, GeneratorMetadata, "train-gan", lambda path: ({}, load_metadata(path)), flag)[1]


def model_digest(run: Path) -> str:
    """Return the SHA-256 digest of the model file of a run, with weights and metadata."""
    return hashlib.sha256((run / MODEL_NAME).read_bytes()).hexdigest()


def check_same_model(run: Path, planned: str, current: str, flags: str = "") -> None:
    """Check that a worker has loaded the model that its work was planned with.

    Args:
        run: folder of the run.
        planned: digest of the model when the work was planned.
        current: digest of the model, read after it was loaded.
        flags: what the command needs when it is run again, such as ` with --overwrite`.

    Raises:
        UserError: they differ, as the run is being trained. Results of several models would be mixed.
    """
    if current != planned:
        raise UserError(
            f"--run {run}: its training has replaced the model that this command started with; "
            f"run the command again{flags} when the training has ended, so that all results are of one model"
        )


def model_kind(run: Path) -> str:
    """Return `classifier` or `generator`, or an empty string if the run has no model.

    Raises:
        UserError: the storage cannot be read.
    """
    path = run / METADATA_NAME
    try:
        with report_os_errors("reading", path, besides=(FileNotFoundError, NotADirectoryError)):
            return str(json.loads(path.read_text(encoding="utf-8"))["kind"])
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return ""


def model_epoch(run: Path) -> int | None:
    """Return the epoch of the model of a run; None without a model, or if its metadata is damaged.

    Raises:
        UserError: the storage cannot be read.
    """
    path = run / METADATA_NAME
    try:
        with report_os_errors("reading", path, besides=(FileNotFoundError, NotADirectoryError)):
            epoch = json.loads(path.read_text(encoding="utf-8"))["training"]["epoch"]
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None
    return epoch if isinstance(epoch, int) and (run / MODEL_NAME).is_file() else None


def _read(
    run: Path,
    metadata_class: type[M],
    command: str,
    load: Callable[[Path], tuple[dict[str, Tensor], dict[str, Any]]],
    flag: str = "--run",
) -> tuple[dict[str, Tensor], M]:
    """Read tensors and checked metadata with `load`; `command` is the command that trains such a model."""
    path = run / MODEL_NAME
    kind = metadata_class.model_fields["kind"].default
    if not run.is_dir():
        raise UserError(f"{flag} {run}: no such folder")
    content = RunFolder(run).read_config()  # rejects a run of an older format, also without a model
    if not path.is_file():
        RunFolder(run).check_single_model(flag)
        if content is not None and content.get("command") == "train-gan":
            command = "train-gan"  # a command that takes both kinds asks for a classifier
        fix = f"train it with `melray {command} --run {run}`"
        if content is None:
            fix = _other_folder(run) or fix
        raise UserError(f"{flag} {run}: no {MODEL_NAME} in it; {fix}")
    tensors, metadata = load(path)
    if metadata.get("kind") not in ("classifier", "generator"):
        raise UserError(f"{path} is not a model of melray (kind {metadata.get('kind')!r})")
    check_format_version(metadata, path)
    if metadata["kind"] != kind:
        raise UserError(f"{flag} {run} holds a {metadata['kind']}: give a run of `melray {command}`")
    if kind == "classifier" and isinstance(metadata.get("model"), dict):
        metadata["model"] = FORMER_SETTINGS | metadata["model"]
    try:
        return tensors, metadata_class.parse(metadata, str(path))
    except ConfigError as error:
        raise UserError(str(error)) from None


def _other_folder(path: Path) -> str:
    """Return what a folder that is no run probably is, and which folder to give; empty if unknown."""
    if (path / MANIFEST_NAME).is_file():
        return "it is a folder of shards: give the run that was trained on them"
    runs = sorted(model.parent.name for model in path.glob(f"*/{MODEL_NAME}"))
    return f"give one of the runs in it, such as {path / runs[0]}" if runs else ""


def _load_weights(model: nn.Module, tensors: dict[str, Tensor], run: Path) -> None:
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(f"{run / MODEL_NAME} does not match its own metadata: {reason}") from None


def _for_inference(model: N) -> N:
    # Convolutions of other weights would convert their maps to and from this format: a quarter of the time.
    return model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
