"""Evaluation of a classifier: figures as JSON, and a page that a person would rather look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from models.config import Config
from models.metrics import classification_metrics
from pipeline.audio.features import FeatureConfig, feature_mismatch
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.inference import predict_probabilities
from pipeline.classifier.report import Example, Mistake, write_report
from pipeline.data.dataset import ShardDataset, open_dataset
from pipeline.data.loader import batch_slices
from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.storage import PathOrURI
from pipeline.training.model_file import SavedClassifier, load_classifier
from pipeline.training.run import load_run_data
from pipeline.training.run_folder import RunFolder

MAX_MISTAKES = 12
CHUNK_ROWS = 1024


class EvaluateConfig(Config):
    """Scores a trained classifier on labelled clips, or a trained generator by what it draws."""

    run: PathOrURI
    """Folder of the run."""
    shards: PathOrURI | None = None
    """Other labelled shards to score on, all of them; by default those of the training."""
    split: Literal["auto", "validation", "held-out", "all"] = "auto"
    """Which clips of the training's own shards: auto takes the held-out fold if there is one, else the validation clips."""
    tta_shifts: int = Field(1, ge=1, le=64)
    """Averages the prediction over so many turns of each clip in time."""
    clips_per_class: int = Field(30, ge=2)
    """Of a generator: clips of each class that are drawn and scored; it needs no other setting."""
    out: PathOrURI | None = None
    """Folder for evaluation.json and report.html; by default the run."""


@dataclass(frozen=True)
class Predictions:
    """Clips with their truth and what the model says."""

    rows: ShardDataset
    index: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Writes `evaluation.json` and `report.html`; returns the figures.

    Raises:
        UserError: an unusable run, or shards that do not fit it.
    """
    saved = load_classifier(config.run)
    rows, index, what = select_rows(config, saved)
    scored = predict_rows(saved, rows, index, config.tta_shifts)
    out = config.out or config.run
    history = RunFolder(config.run).read_history()
    metrics = write_evaluation(out, scored, saved, history, what, config.tta_shifts)
    print(
        f"{what}: {metrics['clips']} clips, accuracy {metrics['accuracy']:.1%}, macro-F1 {metrics['macro_f1']:.3f}, "
        f"log-loss {metrics['log_loss']:.3f}, calibration error {metrics['ece']:.3f}\nreport: {out / 'report.html'}",
        flush=True,
    )
    return metrics


def select_rows(config: EvaluateConfig, saved: SavedClassifier) -> tuple[ShardDataset, np.ndarray, str]:
    """The set, the numbers of the rows to score on, and their name."""
    if config.shards is not None:
        rows = open_dataset(config.shards)
        check_features(rows.features, saved.card.features, config.shards)
        return rows, np.flatnonzero(rows.table["copy"].to_numpy() == 0), f"all of {config.shards}"
    training, rows, split = load_run_data(
        config.run, TrainClassifierConfig, "name the clips to score on with --shards"
    )
    sides = {
        "held-out": split.held_out,
        "validation": split.val,
        "all": np.flatnonzero(rows.table["copy"].to_numpy() == 0),
    }
    on = config.split
    if on == "auto":
        on = "held-out" if len(split.held_out) else "validation"
    if len(sides[on]) == 0:
        raise UserError(
            f"--split {on}: the training had no such clips; choose another, or name labelled ones with --shards"
        )
    return rows, sides[on], f"fold {training.fold}, held out" if on == "held-out" else f"{on} clips"


def check_features(shards: FeatureConfig, model: FeatureConfig, path: Path) -> None:
    """Refuses spectrograms of another kind than the model learnt.

    Raises:
        UserError: with the first setting that differs.
    """
    change = feature_mismatch(shards, model, "the model has")
    if change is not None:
        raise UserError(f"--shards {path} have {change}; extract with the model's settings")


def predict_rows(saved: SavedClassifier, rows: ShardDataset, index: np.ndarray, shifts: int) -> Predictions:
    """What the model says of some rows.

    Raises:
        UserError: when a row has a class that the model never saw.
    """
    number = {name: i for i, name in enumerate(saved.card.class_names)}
    names = rows.table["label"].to_numpy()[index]
    unknown = sorted(set(names) - number.keys())
    if unknown:
        raise UserError(
            f"class '{unknown[0]}' is not one that the model knows: {', '.join(saved.card.class_names)}"
        )
    labels = np.array([number[name] for name in names])
    # A piece at a time: the rows of a large set do not fit into memory.
    pieces = [
        predict_probabilities(saved.model, rows.mels[index[part]], shifts)
        for part in batch_slices(len(index), CHUNK_ROWS)
    ]
    return Predictions(rows, index, labels, np.concatenate(pieces))


def write_evaluation(
    out: Path,
    scored: Predictions,
    saved: SavedClassifier,
    history: list[dict[str, Any]],
    what: str,
    shifts: int,
) -> dict[str, Any]:
    """Writes both files of an evaluation; returns the figures."""
    names = saved.card.class_names
    metrics: dict[str, Any] = classification_metrics(scored.probabilities, scored.labels, list(names))
    mistakes = confident_mistakes(scored, names)
    metrics |= {
        "on": what,
        "shifts": shifts,
        "mistakes": [
            {"clip_id": m.clip_id, "label": m.label, "predicted": m.predicted, "confidence": m.confidence}
            for m in mistakes
        ],
    }
    with report_os_errors("writing to", out):
        out.mkdir(parents=True, exist_ok=True)
        RunFolder(out).write_json("evaluation.json", metrics)
        summary = {
            "scored on": f"{what} ({metrics['clips']} clips)",
            "epoch of the weights": str(saved.card.training.get("epoch", "?")),
            "turns in time averaged": str(shifts),
        }
        write_report(
            out / "report.html",
            title="Sound classifier",
            summary=summary,
            metrics=metrics,
            history=history,
            mistakes=mistakes,
            examples=class_examples(scored, names),
            features=saved.card.features,
            settings=saved.card.training.get("config"),
        )
    return metrics


def confident_mistakes(scored: Predictions, names: tuple[str, ...]) -> list[Mistake]:
    """The wrong answers that the model was surest of, surest first."""
    said = scored.probabilities.argmax(1)
    confidence = scored.probabilities.max(1)
    wrong = np.flatnonzero(said != scored.labels)
    clips = scored.rows.table["clip_id"].to_numpy()[scored.index]
    return [
        Mistake(
            str(clips[i]),
            names[scored.labels[i]],
            names[said[i]],
            float(confidence[i]),
            np.asarray(scored.rows.mels[scored.index[i]]),
        )
        for i in wrong[np.argsort(-confidence[wrong], kind="stable")][:MAX_MISTAKES]
    ]


def class_examples(scored: Predictions, names: tuple[str, ...]) -> list[Example]:
    """For each class the clip that the model recognises best."""
    clips = scored.rows.table["clip_id"].to_numpy()[scored.index]
    examples = []
    for number, name in enumerate(names):
        of_class = np.flatnonzero(scored.labels == number)
        if of_class.size:
            best = of_class[scored.probabilities[of_class, number].argmax()]
            examples.append(Example(str(clips[best]), name, np.asarray(scored.rows.mels[scored.index[best]])))
    return examples
