"""What a search leaves to use: best.yaml, the best trial's run, trials.csv and the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from pipeline.io.console import duration
from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.files import write_text_atomically
from pipeline.io.storage import copy_tree
from pipeline.training.run_folder import RunFolder
from tune.config import SearchConfig
from tune.report.report import write_search_report
from tune.study import importances
from tune.trial.spec import COMMANDS, TrialSpec
from tune.trials import Trial, best_trial


def write_results(config: SearchConfig, job: TrialSpec, trials: list[Trial]) -> dict[str, Any]:
    """Writes the result of a search, whole or broken off; returns its summary.

    Raises:
        UserError: not one trial has a score; with the reason of the first.
    """
    best = best_trial(trials, config.mode)
    with report_os_errors("writing to", config.run):
        write_table(config.run / "trials.csv", trials, config)
        if best is None:
            reason = next((trial.reason for trial in trials if trial.reason), "none came so far")
            raise UserError(f"not one of {len(trials)} trials has a score: {reason}")
        write_best(config, job, best)
        summary = summarize(config, trials, best)
        write_search_report(
            config.run / "report.html",
            title=f"Search for a better {'sound generator' if config.model == 'gan' else 'sound classifier'}",
            summary=report_header(config),
            space=job.space,
            trials=trials,
            mode=config.mode,
            metric=config.judged_by,
            importances=importances(trials, job.space, config.mode),
            settings=config.to_dict(),
            base_values=job.space.read(job.base),
        )
        RunFolder(config.run).write_json("summary.json", summary)
    print_results(config, trials, summary)
    return summary


def report_header(config: SearchConfig) -> dict[str, str]:
    """Short facts for the head of the report."""
    validated = (
        f"{config.inner_folds} parts in turn"
        if config.inner_folds > 1
        else f"{config.val_fraction:.0%} of the clips"
    )
    return {
        "shards": str(config.shards),
        "searcher": "values change in training" if config.changes_values else config.searcher,
        "scheduler": config.scheduler,
        "validated on": validated,
        "held out": f"fold {config.fold}" if config.fold is not None else "nothing",
        "seed": str(config.seed),
    }


def summarize(config: SearchConfig, trials: list[Trial], best: Trial) -> dict[str, Any]:
    """The result in figures."""
    point = best.best(config.mode)
    assert point is not None
    states = [trial.state for trial in trials]
    return {
        "metric": config.judged_by,
        "score": point.score,
        "trial": best.number,
        "epoch": point.epoch,
        "values": best.values,
        "trials": {state: states.count(state) for state in ("finished", "stopped", "failed", "running")},
        "epochs": sum(len(trial.points) for trial in trials),
        "seconds": max(trial.points[-1].at for trial in trials if trial.points),
    }


def write_table(path: Path, trials: list[Trial], config: SearchConfig) -> None:
    """`trials.csv`, a line a trial, the best first."""
    lines = []
    for trial in trials:
        point = trial.best(config.mode)
        lines.append(
            {
                "trial": trial.number,
                "state": trial.state,
                "score": point.score if point else None,
                "best_epoch": point.epoch if point else None,
                "epochs": trial.points[-1].epoch if trial.points else 0,
                "seconds": trial.seconds,
                "reason": trial.reason,
                **trial.values,
            }
        )
    table = pd.DataFrame(lines)
    if len(table):
        table = table.sort_values("score", ascending=config.mode == "min", kind="stable", na_position="last")
    write_text_atomically(path, table.to_csv(index=False))


def write_best(config: SearchConfig, job: TrialSpec, best: Trial) -> None:
    """`best.yaml` and `best/`: the settings and the run of the best trial."""
    settings = job.settings(best.number, best.values)[0]
    command = COMMANDS[config.model]
    values = {
        key: value
        for key, value in settings.to_dict().items()
        if key not in ("shards", "run") and (key != "extra_shards" or value)
    }
    point = best.best(config.mode)
    assert point is not None
    head = [
        f"# The best of a search: trial {best.number}, {config.judged_by} {point.score:.6g} in epoch {point.epoch}.",
        "#",
        f"#   melray {command} --config best.yaml --shards SHARDS --run RUN",
        "#",
    ]
    if config.changes_values:
        head.append(
            "# Its values changed while it trained, and these are the last: the score will not come out the same."
        )
    elif config.inner_folds > 1:
        head.append(
            f"# The score is the mean of {config.inner_folds} parts; val_split names the first of them. Drop it to train on --val-fraction."
        )
    else:
        head.append(
            "# The same score for the same shards, seed and CPUs. --val-fraction 0 --keep last trains on all clips."
        )
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, default_flow_style=None)
    write_text_atomically(config.run / "best.yaml", "\n".join(head) + "\n" + text)
    copy_tree(settings.run, config.run / "best", leave_out=("checkpoints", "kept", "trial.json"))


def print_results(config: SearchConfig, trials: list[Trial], summary: dict[str, Any]) -> None:
    """Prints the result."""
    counts = ", ".join(
        f"{count} {'not ended' if state == 'running' else state}"
        for state, count in summary["trials"].items()
        if count
    )
    print(
        f"{len(trials)} trials in {duration(summary['seconds'])}: {counts}; {summary['epochs']} epochs in all"
    )
    print(
        f"best: trial {summary['trial']}, {config.judged_by} {summary['score']:.4f} in epoch {summary['epoch']}"
    )
    for key, value in summary["values"].items():
        print(f"  {key}: {f'{value:.6g}' if isinstance(value, float) else value}")
    for what, name in (
        ("settings", "best.yaml"),
        ("its run", "best"),
        ("all trials", "trials.csv"),
        ("report", "report.html"),
    ):
        print(f"{what}: {config.run / name}")
    print(f"tensorboard --logdir {config.run / 'trials'} shows the curves of all", flush=True)
