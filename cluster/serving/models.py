"""Which runs are served, under which names, and what clients need to know of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.classifier.predictor_model import load_predictor
from pipeline.io.errors import UserError
from pipeline.training.model_file import (
    ClassifierMetadata,
    ModelMetadata,
    load_generator_metadata,
    model_kind,
)

Kind = Literal["classifier", "generator"]


@dataclass(frozen=True)
class ServedModel:
    """A run that is served."""

    name: str
    run: Path
    metadata: ModelMetadata

    @property
    def kind(self) -> Kind:
        """Whether it classifies or generates."""
        return "classifier" if isinstance(self.metadata, ClassifierMetadata) else "generator"

    def describe(self) -> dict[str, Any]:
        """Return what `GET /models` lists."""
        features = self.metadata.features
        mel = features.mel
        facts = {
            "name": self.name,
            "classes": list(self.metadata.class_names),
            "sample_rate": mel.sample_rate,
            "seconds": features.seconds,
            "min_hz": mel.fmin,
            "max_hz": mel.sample_rate / 2 if mel.fmax is None else mel.fmax,
        }
        if isinstance(self.metadata, ClassifierMetadata):
            thresholds = self.metadata.thresholds
            facts |= {
                "multi_label": self.metadata.multi_label,
                "thresholds": None if thresholds is None else list(thresholds),
            }
        return facts


def load_models(runs: Sequence[Path]) -> list[ServedModel]:
    """Check the runs, and load their metadata.

    Raises:
        UserError: an unusable run, or one that is given twice.
    """
    names = unique_names(runs)
    return [ServedModel(name, run, _metadata(run)) for name, run in zip(names, runs, strict=True)]


def _metadata(run: Path) -> ModelMetadata:
    if model_kind(run) == "generator":
        return load_generator_metadata(run)
    return load_predictor(run).metadata


def unique_names(runs: Sequence[Path]) -> list[str]:
    """Return the name of each run: that of its folder; a second one of a name has `-2` after it.

    Raises:
        UserError: a run is given twice.
    """
    names: list[str] = []
    paths = [str(run if "://" in str(run) else run.resolve()) for run in runs]
    for index, (run, path) in enumerate(zip(runs, paths, strict=True)):
        if path in paths[:index]:
            raise UserError(f"--run {run}: given twice")
        base = path.rstrip("/").rpartition("/")[2] or "run"
        name, number = base, 2
        while name in names:
            name, number = f"{base}-{number}", number + 1
        names.append(name)
    return names
