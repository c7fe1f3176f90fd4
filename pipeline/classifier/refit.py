"""Second training run on all clips, those of the validation included, once validation has chosen the epochs.

The folder of such a run has two: `validated/` is an ordinary run, and the run itself is trained on all clips
except those of the held-out fold. Each clip is seen as often as in the validated run (Goodfellow et al.
2016, section 7.8). The learning rate schedule is that of a run of this length, so that the cosine ends
with it: a schedule that is cut off ends at a high learning rate, and with a worse model (Hoffmann et al.
2022, appendix B). There are no clips left to calibrate with: temperature and thresholds are those of the
validated model.
"""

from __future__ import annotations

from typing import Any

from pipeline.classifier.config import TrainClassifierConfig
from pipeline.io.console import duration
from pipeline.io.errors import UserError
from pipeline.io.text import plural
from pipeline.training.run import SUMMARY_KEYS
from pipeline.training.run_folder import RunFolder

VALIDATED_NAME = "validated"


def validated_config(config: TrainClassifierConfig) -> TrainClassifierConfig:
    """Return the settings of the run with validation, in a subfolder of the run."""
    return config.model_copy(update={"run": config.run / VALIDATED_NAME, "refit": False})


def refit_config(config: TrainClassifierConfig) -> TrainClassifierConfig:
    """Return the settings of the run on all clips, whose epochs the validated run has chosen.

    Raises:
        UserError: the summary of the validated run is missing or damaged.
    """
    epochs = _validated_summary(config)["best_epoch"]
    warmup = config.warmup_epochs
    return config.final.model_copy(
        update={
            "refit": False,
            "epochs": epochs,
            "warmup_epochs": None if warmup is None else warmup * epochs / config.epochs,
        }
    )


def finish_refit(config: TrainClassifierConfig, result: dict[str, Any]) -> dict[str, Any]:
    """Add calibration and metrics of the validated model to the model of a run; return its summary.

    May be called again after an interruption.
    """
    from pipeline.training.model_file import load_classifier, save_model  # with torch

    saved, validated = load_classifier(config.run), load_classifier(config.run / VALIDATED_NAME).metadata
    metrics = {key: value for key, value in validated.training.items() if key.startswith("val_")}
    training = saved.metadata.training | {"validated": {"epoch": validated.training["epoch"], **metrics}}
    metadata = saved.metadata.model_copy(
        update={
            "temperature": validated.temperature,
            "thresholds": validated.thresholds,
            "training": training,
        }
    )
    save_model(config.run, saved.model, metadata)
    return result | {"validated": _validated_summary(config)}


def _validated_summary(config: TrainClassifierConfig) -> dict[str, Any]:
    folder = config.run / VALIDATED_NAME
    summary = RunFolder(folder).read_object("summary.json", SUMMARY_KEYS)
    if summary is None:
        raise UserError(f"--run {config.run}: no summary.json in {folder}; delete the run to start over")
    return summary


def describe_refit(summary: dict[str, Any], validated: str) -> str:
    """Format the summary of a run as one line; `validated` is that of the validated run."""
    return (
        f"validated: {validated}; then trained on all clips: {plural(summary['epochs'], 'epoch')} in "
        f"{duration(summary['total_seconds'])}"
    )
