"""Results of a search: best.yaml, the best trial's run, trials.csv, summary.json and the report."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from pipeline.io.console import duration
from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.files import write_text_atomically
from pipeline.io.storage import copy_tree, has_files_of
from pipeline.io.text import plural
from pipeline.io.yaml_files import yaml_text
from pipeline.training.run_folder import RunFolder
from tune.config import SearchConfig
from tune.report.report import write_search_report
from tune.study import importances
from tune.trial.replaced import NOT_RESULTS, run_with_best_model
from tune.trial.spec import COMMANDS, TrialSpec
from tune.trials import Mode, Trial, best_trial, trained_epochs
from tune.trials_table import trials_table


def write_results(config: SearchConfig, spec: TrialSpec, trials: list[Trial]) -> dict[str, Any]:
    """Write and print the results of a search, complete or interrupted; return its summary.

    Raises:
        UserError: no trial has a score; the message has the reason of the first failure.
    """
    best = best_trial(trials, config.mode)
    with report_os_errors("writing to", config.run):
        write_table(config.run / "trials.csv", trials, config)
        if best is None:
            reason = next((trial.reason for trial in trials if trial.reason), "")
            if not reason and config.time_budget is not None:
                raise UserError(
                    f"--time-budget {config.time_budget:g} (minutes): used up before a trial ended an epoch "
                    "with a score; raise it"
                )
            reason = reason or "none ended an epoch with a score"
            raise UserError(
                f"none of {plural(len(trials), 'trial')} produced a score: {reason} "
                f"(to run them again, delete {config.run / 'trials'})"
            )
        epoch = model_epoch(spec, best, config.mode)
        write_best(config, spec, best, epoch)
        summary = summarize(config, trials, best, epoch)
        write_search_report(
            config.run / "report.html",
            title=f"Hyperparameter search: {'GAN' if config.model == 'gan' else 'classifier'}",
            summary=report_header(config),
            space=spec.space,
            trials=trials,
            mode=config.mode,
            metric=config.metric_name,
            importances=importances(trials, spec.space, config.mode),
            settings=config.to_dict(),
            base_values=spec.space.read(spec.base),
        )
        RunFolder(config.run).write_json("summary.json", summary)
    print_results(config, trials, summary)
    return summary


def report_header(config: SearchConfig) -> dict[str, str]:
    """Return short facts about the search for the top of the report."""
    validation = (
        f"{config.inner_folds} inner folds"
        if config.inner_folds > 1
        else f"{config.val_fraction:.0%} of the clips"
    )
    return {
        "shards": str(config.shards),
        "searcher": config.scheduler if config.mutates_params else config.searcher,
        "scheduler": config.scheduler,
        "validation": validation,
        "held out": f"fold {config.fold}" if config.fold is not None else "none",
        "seed": str(config.seed),
    }


def model_epoch(spec: TrialSpec, best: Trial, mode: Mode) -> int:
    """Return the epoch of the best trial's model; of several with the same score it has the lowest loss."""
    point = best.best(mode)
    assert point is not None
    run = run_with_best_model(spec, best.number, spec.settings(best.number, best.params)[0].run)
    training = (RunFolder(run).read_json("model.json") or {}).get("training") or {}
    # The score of several inner folds is their mean.
    return int(training["epoch"]) if training.get(spec.metric) == point.score else point.epoch


def summarize(config: SearchConfig, trials: list[Trial], best: Trial, epoch: int) -> dict[str, Any]:
    """Return the content of `summary.json`; `epoch` is that of the model of the trial `best`."""
    point = best.best(config.mode)
    assert point is not None
    states = [trial.state for trial in trials]
    return {
        "metric": config.metric_name,
        "score": point.score,
        "trial": best.number,
        "epoch": epoch,
        "params": best.params,
        "trials": {state: states.count(state) for state in ("finished", "stopped", "failed", "running")},
        "epochs": sum(trained_epochs(trials).values()),
        "seconds": max(trial.points[-1].elapsed_s for trial in trials if trial.points),
    }


def write_table(path: Path, trials: list[Trial], config: SearchConfig) -> None:
    """Write `trials.csv`: one line per trial, best first."""
    table = trials_table(trials, config.mode)
    write_text_atomically(path, table.to_csv(index=False))


def write_best(config: SearchConfig, spec: TrialSpec, best: Trial, epoch: int) -> None:
    """Write the settings of the best trial to `best.yaml` and copy its run to `best/`.

    `epoch` is that of its model.
    """
    settings = spec.settings(best.number, best.params)[0]
    command = COMMANDS[config.model]
    values = {
        key: value
        for key, value in (settings.to_dict() | best.resources).items()
        if key not in ("shards", "run", "log_to") and (key != "extra_shards" or value)
    }
    point = best.best(config.mode)
    assert point is not None
    header = [
        f"# Best trial: {best.number}, {config.metric_name} {point.score:.6g} in epoch {epoch}.",
        "#",
        f"#   melray {command} --config best.yaml --shards SHARDS --run RUN",
        "#",
        *_reproduction_notes(config),
    ]
    write_text_atomically(config.run / "best.yaml", "\n".join(header) + "\n" + yaml_text(values))
    folder, run = config.run / "best", run_with_best_model(spec, best.number, settings.run)
    if not _is_copy(folder, run):  # else it may have results of other commands, such as `evaluate`
        copy_tree(run, folder, exclude=NOT_RESULTS)


def _is_copy(folder: Path, run: Path) -> bool:
    """Return whether a folder has all files of a run, and the same model and record of the training."""

    def contents(run: Path) -> list[bytes | None]:
        paths = [run / name for name in ("config.json", "metrics.jsonl", "model.json", "summary.json")]
        return [path.read_bytes() if path.is_file() else None for path in paths]

    return has_files_of(folder, run, NOT_RESULTS) and contents(folder) == contents(run)


def _reproduction_notes(config: SearchConfig) -> list[str]:
    if config.mutates_params:
        return [
            "# Values were mutated during training; this is the final set and will not reproduce the score."
        ]
    if config.inner_folds > 1:
        return [
            f"# The score is the mean of {config.inner_folds} inner folds; val_split selects the first.",
            "# Remove val_split to validate on --val-fraction.",
        ]
    return [
        "# Reproduces the score with the same shards, seed and CPUs.",
        "# --val-fraction 0 --keep last trains on all clips.",
    ]


def print_results(config: SearchConfig, trials: list[Trial], summary: dict[str, Any]) -> None:
    """Print the results."""
    counts = ", ".join(
        f"{count} {'unfinished' if state == 'running' else state}"
        for state, count in summary["trials"].items()
        if count
    )
    elapsed = duration(summary["seconds"])
    score = f"{summary['metric']} {summary['score']:.4f}"
    epochs = plural(summary["epochs"], "epoch")
    print(f"{plural(len(trials), 'trial')} in {elapsed}: {counts}; {epochs} in total")
    print(f"best: trial {summary['trial']}, {score} in epoch {summary['epoch']}")
    for key, value in summary["params"].items():
        print(f"  {key}: {f'{value:.6g}' if isinstance(value, float) else value}")
    for name, file in (
        ("settings", "best.yaml"),
        ("best run", "best"),
        ("all trials", "trials.csv"),
        ("report", "report.html"),
    ):
        print(f"{name}: {config.run / file}")
    if config.trials_log_to:
        print(
            f"all learning curves: tensorboard --logdir {shlex.quote(str(config.run / 'trials'))}", flush=True
        )
