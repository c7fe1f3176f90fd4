"""Ensembles: classifiers that are trained on the same clips with different seeds, or inputs, predict as one.

The folder of such a run has those of its members, `member_1/`, `member_2/`, …, which are ordinary runs.
`ensemble.json`, written once all are complete, names them, and has the temperature of their mean.
"""

from __future__ import annotations

from typing import Any

from pipeline.classifier.config import TrainClassifierConfig
from pipeline.io.console import duration
from pipeline.io.text import plural
from pipeline.report.page import number
from pipeline.training.run import SUMMARY_KEYS, finish_run
from pipeline.training.run_content import ENSEMBLE_NAME
from pipeline.training.run_folder import RESTORE, RunFolder


def member_configs(config: TrainClassifierConfig) -> dict[str, TrainClassifierConfig]:
    """Return the settings of the run of each member, by name."""
    return {f"member {index + 1}": _member_config(config, index) for index in range(config.ensemble)}


def _member_config(config: TrainClassifierConfig, index: int) -> TrainClassifierConfig:
    """Return the settings of the run of the member with an index, from 0."""
    inputs = config.ensemble_inputs or (config.model.input,)
    return config.model_copy(
        update={
            "run": config.run / f"member_{index + 1}",
            "model": config.model.model_copy(update={"input": inputs[index % len(inputs)]}),
            "ensemble": 1,
            "ensemble_inputs": (),
            "seed": config.seed + index,
            "split_seed": config.seed_of_split,
        }
    )


def finish_ensemble(config: TrainClassifierConfig) -> dict[str, Any]:
    """Calibrate and evaluate an ensemble of complete runs on its validation clips; return its summary.

    Writes `ensemble.json`, `evaluation.json` and `report.html`, and then `summary.json`.

    Raises:
        UserError: the summary of a member is damaged.
    """
    runs = [member.run for member in member_configs(config).values()]
    members = [RunFolder(run).read_object("summary.json", SUMMARY_KEYS, RESTORE) or {} for run in runs]
    record: dict[str, Any] = {"members": [run.name for run in runs]}
    metrics: dict[str, float] = {}
    if config.validates:
        from pipeline.classifier.ensemble_calibration import calibrate_ensemble  # with torch

        values, metrics = calibrate_ensemble(config, runs)
        record |= values
    RunFolder(config.run).write_json(ENSEMBLE_NAME, record)
    result = {
        "epochs": sum(member["epochs"] for member in members),
        "best_epoch": None,  # each member has one of its own
        **metrics,
        "members": [{"run": run.name, **member} for run, member in zip(runs, members, strict=True)],
    }
    return finish_run(config, result, sum(member["total_seconds"] for member in members))


def describe_ensemble(summary: dict[str, Any]) -> str:
    """Format the summary of an ensemble as one line."""
    members = summary["members"]
    text = f"ensemble of {plural(len(members), 'model')}, {plural(summary['epochs'], 'epoch')} in "
    text += duration(summary["total_seconds"])
    key = "val_map" if "val_map" in summary else "val_accuracy"
    if key not in summary:
        return f"{text}, not validated"
    name = "macro average precision" if key == "val_map" else "accuracy"
    validated = [member.get("validated", member)[key] for member in members]
    # Undefined if no validation clip has a class.
    score, macro_f1 = number(summary[key], ".1%"), number(summary["val_macro_f1"], ".3f")
    return (
        f"{text}: validation {name} {score} (of its models: "
        f"{', '.join(f'{value:.1%}' for value in validated)}), macro-F1 {macro_f1}, "
        f"log loss {summary['val_log_loss']:.3f}, temperature {summary['temperature']:.2f}"
    )
