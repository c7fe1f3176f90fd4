"""What of a run folder a tracker gets: parameters, metrics, results, artifacts and the model."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from models.config import flat_values
from pipeline.training.run_content import CROSSVAL_NAME, ENSEMBLE_NAME
from pipeline.training.run_folder import RunFolder
from pipeline.training.trackers.tracked_runs import subfolders, training_runs

CONFIG_NAME = "config.json"
MODEL_NAMES = ("model.safetensors", "model.json")
# Files of a run, if it has them.
RESULT_NAMES = (
    CONFIG_NAME,
    "split.parquet",
    "metrics.jsonl",
    "notes.json",
    "summary.json",
    "evaluation.json",
    "confusion.csv",
    CROSSVAL_NAME,
    ENSEMBLE_NAME,
    "report.html",
    "search.json",
    "trial.json",
    "trials.csv",
    "best.yaml",
    "samples/progress.gif",
)
# Files with values that are results, by the prefix of their names.
_VALUE_FILES = {"summary": "summary.json", "evaluation": "evaluation.json", "crossval": CROSSVAL_NAME}


def tag(name: str) -> str:
    """Return the name of a metric as in TensorBoard, such as `val/loss` for `val_loss`."""
    return name.replace("train_", "train/").replace("val_", "val/")


def epoch_values(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers among the metrics of an epoch, by tag."""
    return {tag(name): value for name, value in metrics.items() if isinstance(value, float)}


def parameters(folder: Path, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a run by dotted key; of URIs only what cannot be secret."""
    content = RunFolder(folder).read_object(CONFIG_NAME) or {}
    values = flat_values({**extra, **content.pop("config", {}), **content})
    return {key: _without_credentials(value) for key, value in values.items()}


def _without_credentials(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_credentials(item) for item in value]
    if not isinstance(value, str) or "://" not in value:
        return value
    parts = urlsplit(value)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def results(folder: Path) -> dict[str, float]:
    """Return the numbers in the result files of a run, such as `evaluation/accuracy`."""
    numbers: dict[str, float] = {}
    for prefix, name in _VALUE_FILES.items():
        content = RunFolder(folder).read_object(name) or {}
        # Those of each class would be thousands, and the names of classes are no names of metrics.
        values = content if prefix == "evaluation" else flat_values(_without_thresholds(content))
        numbers |= {f"{prefix}/{key}": float(value) for key, value in values.items() if _is_number(value)}
    return numbers


def _without_thresholds(content: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_thresholds(value) if isinstance(value, Mapping) else value
        for key, value in content.items()
        if key != "thresholds"
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def result_files(folder: Path) -> Iterator[str]:
    """Yield the paths of the files of a run that are artifacts, relative to its folder."""
    for name in RESULT_NAMES:
        if (folder / name).is_file():
            yield name


def sample_folders(folder: Path) -> dict[str, int]:
    """Return the folders of generated clips and the epoch of each; that of real clips has the first one's."""
    epochs = {}
    for path in subfolders(folder / "samples"):
        if path.name.startswith("epoch_") and path.name.removeprefix("epoch_").isdigit():
            epochs[f"samples/{path.name}"] = int(path.name.removeprefix("epoch_"))
    if epochs and (folder / "samples/real").is_dir():
        epochs["samples/real"] = min(epochs.values())
    return epochs


def sample_files(folder: Path, samples: str) -> list[str]:
    """Return the audio and images in one of the `sample_folders` of a run, relative to the run's folder."""
    names = sorted(path.name for path in (folder / samples).iterdir())
    return [f"{samples}/{name}" for name in names if name.endswith((".wav", ".png"))]


def model_files(root: Path) -> list[str]:
    """Return the files of a command's model, relative to its run folder; empty if it has none.

    Those of an ensemble or a cross-validation are those of its runs, and of a search those of the best trial.
    """
    names = []
    for name in (ENSEMBLE_NAME, CROSSVAL_NAME):
        if (root / name).is_file():
            kinds = ("fold", "member")
            folders = [run.folder for run in training_runs(root) if run.kind in kinds]
            names = [name, *(str(path.relative_to(root)) for path in _models(folders))]
    return names or [str(path.relative_to(root)) for path in _models([root]) or _models([root / "best"])]


def _models(folders: list[Path]) -> list[Path]:
    return [
        folder / name
        for folder in folders
        if (folder / MODEL_NAMES[0]).is_file()
        for name in MODEL_NAMES
        if (folder / name).is_file()
    ]


def model_metadata(root: Path, files: list[str]) -> dict[str, Any]:
    """Return what the metadata of a model says of its kind and its classes."""
    path = next((root / name for name in files if name.endswith("model.json")), None)
    content = RunFolder(path.parent).read_object(path.name) if path else None
    return {key: value for key, value in (content or {}).items() if key in ("kind", "class_names")}


def digest(path: Path) -> str:
    """Return a digest of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
