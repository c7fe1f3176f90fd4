"""A classifier's run from its command to its summary: new, continued, or found finished."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.loop import train_loop
from pipeline.distributed.resources import (
    ResourceConfig,
    max_cpus_per_worker,
    max_workers,
    wait_for_resources,
)
from pipeline.io.console import duration
from pipeline.training.launch import Task, fit, run_tasks
from pipeline.training.run import finish_run, start_run
from pipeline.training.run_folder import RunFolder
from pipeline.training.world import World


def begin_run(config: TrainClassifierConfig) -> dict[str, Any] | None:
    """Opens the run's folder; returns its summary where it is finished already.

    Raises:
        UserError: unusable shards, or a folder that holds another run.
    """
    return start_run("train-classifier", config)


def train_classifier(config: TrainClassifierConfig) -> dict[str, Any]:
    """Trains on the cluster, from the newest checkpoint of the run if there is one; returns the summary.

    Raises:
        UserError: unusable shards or settings, too few resources, too many lost workers.
    """
    summary = begin_run(config)
    if summary is None:
        start = time.monotonic()
        done = len(RunFolder(config.run).read_history())
        if done:
            print(f"going on after epoch {done}", flush=True)
        loop = partial(train_loop, owner=RunFolder(config.run).acquire())
        result = fit(loop, config, config.subset(ResourceConfig), config.run)
        summary = finish_run(config, result, time.monotonic() - start)
    else:
        print(f"the run in {config.run} is finished already", flush=True)
    print(describe_result(summary), flush=True)
    print(f"model: {config.run / 'model.safetensors'}", flush=True)
    return summary


def train_many(runs: dict[str, TrainClassifierConfig]) -> None:
    """Trains those of some like trainings, by their names, that are not finished: side by side where one worker does, else in turn.

    The CPUs of each depend on how many there are, not on how many are left, so that one that is continued stays the same.

    Raises:
        UserError: the first of theirs.
    """
    pending = {name: run for name, run in runs.items() if begin_run(run) is None}
    resources = next(iter(runs.values())).subset(ResourceConfig)
    if pending and resources.workers > 1:
        for run in pending.values():
            train_classifier(run)
    elif pending:
        train_concurrently(pending, resources, len(runs))


def train_concurrently(
    pending: dict[str, TrainClassifierConfig], resources: ResourceConfig, at_once: int
) -> None:
    """Trains several of one worker, begun already, up to `at_once` together; a lost one goes on from its last epoch.

    Raises:
        UserError: the first of theirs.
    """
    need = resources.need(resources.cpus_per_worker or 1)
    nodes = wait_for_resources(need, resources.wait_for_nodes, "lower --cpus-per-worker or --gpus-per-worker")
    fit = min(at_once, max_workers(need, nodes))
    cpus = resources.cpus_per_worker or max_cpus_per_worker(replace(need, workers=fit), nodes)
    print(
        f"training {', '.join(pending)}: {min(len(pending), fit)} at once with {replace(need, cpus=cpus).each} each",
        flush=True,
    )
    tasks = {
        name: Task(partial(_train_and_finish, owner=RunFolder(run.run).acquire()), run, RunFolder(run.run))
        for name, run in pending.items()
    }
    run_tasks(tasks, resources, cpus)


def _train_and_finish(config: TrainClassifierConfig, world: World, owner: str | None) -> dict[str, Any]:
    """The loop and what marks a run as finished, so that those that ended stay so whatever becomes of the others."""
    start = time.monotonic()
    return finish_run(config, train_loop(config, world, owner), time.monotonic() - start)


def train_in_process(config: TrainClassifierConfig, owner: str | None = None) -> dict[str, Any]:
    """Trains a run that is begun in this process, on its CPUs; returns the summary."""
    return _train_and_finish(config, World(0, 1, torch.device("cpu")), owner)


def describe_result(summary: dict[str, Any]) -> str:
    """The result in words."""
    text = f"{summary['epochs']} epochs in {duration(summary['total_seconds'])}"
    text += " (stopped early)" if summary["stopped_early"] else ""
    if "val_loss" not in summary:
        return f"{text}, kept the last"
    return (
        f"{text}, kept epoch {summary['best_epoch']}: validation accuracy {summary['val_accuracy']:.1%}, "
        f"macro-F1 {summary['val_macro_f1']:.3f}, loss {summary['val_loss']:.3f}"
    )
