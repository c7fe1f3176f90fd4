"""The model that predicts: a classifier, or all those of a cross-validation as an ensemble."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from models.classifier import Classifier
from models.ensemble import Ensemble
from pipeline.audio.features import feature_mismatch
from pipeline.io.errors import UserError
from pipeline.training.model_file import MODEL_NAME, ClassifierMetadata, load_classifier, model_digest
from pipeline.training.run_folder import RunFolder


@dataclass(frozen=True)
class PredictorModel:
    """A classifier or an ensemble in evaluation mode, with the metadata of its first member."""

    model: Classifier | Ensemble
    metadata: ClassifierMetadata
    members: int = 1


def member_runs(run: Path) -> list[Path]:
    """Return the runs whose models predict together: those of the folds of a cross-validation, or one run."""
    if (run / MODEL_NAME).is_file():
        return [run]
    results = RunFolder(run).read_json("crossval.json") or {}
    folds = [fold["fold"] for fold in results.get("folds", [])]
    return [run / f"fold_{fold}" for fold in folds] or [run]


def load_predictor(run: Path) -> PredictorModel:
    """Load the model of a run, or the models of a complete cross-validation.

    Raises:
        UserError: as `load_classifier`, or models that do not fit each other.
    """
    runs = member_runs(run)
    first, *others = [load_classifier(member) for member in runs]
    if not others:
        return PredictorModel(first.model, first.metadata)
    for path, other in zip(runs[1:], others, strict=True):
        if other.metadata.class_names != first.metadata.class_names:
            raise UserError(f"--run {run}: {path} has other classes than {runs[0]}: train all folds again")
        if other.metadata.multi_label != first.metadata.multi_label:
            raise UserError(f"--run {run}: only one of {runs[0]} and {path} is multi-label: train all again")
        if mismatch := feature_mismatch(other.metadata.features, first.metadata.features, f"{runs[0]} has"):
            raise UserError(f"--run {run}: {path} has {mismatch}: train all folds again")
    model = Ensemble([first.model, *(other.model for other in others)]).eval()
    metadata, thresholds = first.metadata, _thresholds(run, first.metadata)
    return PredictorModel(model, metadata.model_copy(update={"thresholds": thresholds}), len(runs))


def _thresholds(run: Path, metadata: ClassifierMetadata) -> tuple[float, ...] | None:
    """Return the thresholds that a cross-validation chose on all its held-out clips, or those of a fold."""
    values = (RunFolder(run).read_json("crossval.json") or {}).get("thresholds")
    return metadata.thresholds if values is None else tuple(values[name] for name in metadata.class_names)


def predictor_digest(run: Path) -> str:
    """Return a digest of all models that predict, with weights and metadata."""
    digests = [model_digest(member) for member in member_runs(run)]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
