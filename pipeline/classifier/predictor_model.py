"""The model that predicts: a classifier, or several as an ensemble, such as those of a cross-validation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from models.classifier import Classifier
from models.ensemble import Ensemble
from models.fold_batch_norms import fold_batch_norms
from pipeline.audio.features import feature_mismatch
from pipeline.io.errors import UserError
from pipeline.training.model_file import (
    MODEL_NAME,
    ClassifierMetadata,
    SavedClassifier,
    load_classifier,
    model_digest,
)
from pipeline.training.run_content import CROSSVAL_NAME, ENSEMBLE_NAME
from pipeline.training.run_folder import RunFolder


@dataclass(frozen=True)
class PredictorModel:
    """A classifier or an ensemble in evaluation mode, with the metadata of its first member."""

    model: Classifier | Ensemble
    metadata: ClassifierMetadata
    members: int = 1


AnyClassifier = SavedClassifier | PredictorModel


@dataclass(frozen=True)
class EnsembleRecord:
    """Runs whose models predict together, and how."""

    runs: list[Path]
    temperature: float = 1.0
    """Divisor of the logits of their mean."""
    member_temperature: float = 1.0
    """Divisor of the logits of each of them, in addition to its own."""
    thresholds: dict[str, float] | None = None
    """Thresholds of multi-label models by class; None if none were chosen for all together."""
    is_crossval: bool = False
    """Whether the runs are the folds of a cross-validation."""

    @staticmethod
    def read(run: Path) -> EnsembleRecord | None:
        """Read what a complete ensemble or cross-validation has written; None for a single model."""
        if (run / MODEL_NAME).is_file():
            return None
        folder = RunFolder(run)
        ensemble = folder.read_object(ENSEMBLE_NAME, ("members",))
        if ensemble is not None:
            runs = [run / name for name in ensemble["members"]]
            return EnsembleRecord(
                runs, ensemble.get("temperature", 1.0), thresholds=ensemble.get("thresholds")
            )
        results = folder.read_json(CROSSVAL_NAME) or {}
        if "tuned" in results:  # a nested cross-validation
            return EnsembleRecord.read(run / "tuned")
        runs = [run / f"fold_{fold['fold']}" for fold in results.get("folds", [])]
        if not runs:
            return None
        temperature = results.get("member_temperature", 1.0)
        thresholds = results.get("thresholds")
        return EnsembleRecord(runs, member_temperature=temperature, thresholds=thresholds, is_crossval=True)


def is_ensemble_of_runs(run: Path) -> bool:
    """Return whether a folder is an ensemble of trained runs: it has no training settings."""
    return (run / ENSEMBLE_NAME).is_file() and RunFolder(run).read_config() is None


def member_runs(run: Path) -> list[Path]:
    """Return the runs whose models predict together, those of ensembles among them included."""
    record = EnsembleRecord.read(run)
    return [run] if record is None else [member for path in record.runs for member in member_runs(path)]


def load_predictor(run: Path) -> PredictorModel:
    """Load the model of a run, or the models of an ensemble or of a complete cross-validation.

    Raises:
        UserError: as `load_classifier`, or models that do not fit each other.
    """
    record = EnsembleRecord.read(run)
    if record is None:
        saved = load_classifier(run)
        fold_batch_norms(saved.model)
        return PredictorModel(saved.model, saved.metadata)
    return combine(record, [load_predictor(path) for path in record.runs], f"--run {run}")


def combine(record: EnsembleRecord, members: Sequence[PredictorModel], setting: str) -> PredictorModel:
    """Return the models of the runs of a record as one; their own temperatures are changed as it says.

    Args:
        record: the runs.
        members: model of each of them.
        setting: flag that all of them are given by, for messages.

    Raises:
        UserError: models that do not fit each other.
    """
    first, *others = [member.metadata for member in members]
    for path, other in zip(record.runs[1:], others, strict=True):
        if other.class_names != first.class_names:
            raise UserError(f"{setting}: {path} has other classes than {record.runs[0]}: train all again")
        if other.multi_label != first.multi_label:
            raise UserError(
                f"{setting}: only one of {record.runs[0]} and {path} is multi-label: train all again"
            )
        if mismatch := feature_mismatch(other.features, first.features, f"{record.runs[0]} has"):
            raise UserError(f"{setting}: {path} has {mismatch}: train all again")
    for member in members:
        member.model.temperature *= record.member_temperature
    model = Ensemble([member.model for member in members], record.temperature).eval()
    thresholds = first.thresholds
    if record.thresholds is not None:
        thresholds = tuple(record.thresholds[name] for name in first.class_names)
    return PredictorModel(
        model, first.model_copy(update={"thresholds": thresholds}), sum(member.members for member in members)
    )


def model_facts(saved: AnyClassifier) -> dict[str, str]:
    """Return facts about the training of a model, for the top of a report."""
    training = saved.metadata.training
    if isinstance(saved, PredictorModel) and saved.members > 1:
        return {"models": f"{saved.members}, mean of their probabilities"}
    facts = {"checkpoint epoch": str(training["epoch"])} if "epoch" in training else {}
    if validated := training.get("validated"):
        key = "val_map" if "val_map" in validated else "val_accuracy"
        name = "macro average precision" if key == "val_map" else "accuracy"
        facts["trained on"] = (
            "all clips that are not held out; epochs and calibration are those of the validated model "
            f"(epoch {validated['epoch']}, validation {name} {validated[key]:.1%})"
        )
    return facts


def predictor_digest(run: Path) -> str:
    """Return a digest of all models that predict, with weights and metadata."""
    record = EnsembleRecord.read(run)
    if record is None:
        return model_digest(run)
    content = [
        [predictor_digest(path) for path in record.runs],
        [record.temperature, record.member_temperature, record.thresholds],
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
