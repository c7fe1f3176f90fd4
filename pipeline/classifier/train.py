"""Classifier runs from command to summary: started, resumed, or already complete."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.label_mode import check_label_mode
from pipeline.data.split_warnings import name_list
from pipeline.distributed.resource_config import ResourceConfig
from pipeline.distributed.resources import (
    cluster_nodes,
    max_cpus_per_worker,
    max_workers,
    wait_for_resources,
)
from pipeline.io.console import duration, logger
from pipeline.io.text import plural
from pipeline.training.launch import fit, run_tasks
from pipeline.training.run import finish_run, start_run
from pipeline.training.run_folder import RunFolder
from pipeline.training.single_worker_runs import TrainingTask

if TYPE_CHECKING:
    import torch

    from pipeline.training.world import World


def begin_run(config: TrainClassifierConfig) -> dict[str, Any] | None:
    """Open the run folder; return the summary if the run is complete, else None.

    Raises:
        UserError: unusable shards, rows of several classes or none in a run that is not multi-label, or a
            folder that contains another run.
    """
    check_label_mode(config)
    return start_run("train-classifier", config)


def train_classifier(config: TrainClassifierConfig) -> dict[str, Any]:
    """Train on the cluster, from the newest checkpoint of the run if there is one; return the summary.

    Raises:
        UserError: unusable shards or settings, too few resources, too many lost workers.
    """
    summary = begin_run(config)
    if summary is None:
        start_time = time.monotonic()
        run = RunFolder(config.run)
        epochs_done = len(run.read_history())
        if epochs_done:
            logger.info("resuming from epoch %d", epochs_done)
        loop = partial(_train, owner=run.acquire())
        result = fit(loop, config, config.subset(ResourceConfig), config.run)
        summary = finish_run(config, result, time.monotonic() - start_time)
    else:
        logger.info("run %s is already complete", config.run)
    print(describe_result(summary), flush=True)
    print(f"model: {config.run / 'model.safetensors'}", flush=True)
    return summary


def train_many(runs: dict[str, TrainClassifierConfig]) -> None:
    """Train all unfinished runs: concurrently if each uses one worker, else sequentially.

    The CPUs of each depend on the number of runs, not on how many are unfinished, so that a resumed run has
    the same number.

    Args:
        runs: settings of each run by name; all request the same resources.

    Raises:
        UserError: the error of the first run that fails.
    """
    pending = {name: config for name, config in runs.items() if begin_run(config) is None}
    resources = next(iter(runs.values())).subset(ResourceConfig)
    if pending and resources.workers > 1:
        for config in pending.values():
            train_classifier(config)
    elif pending:
        train_concurrently(pending, resources, len(runs))


def train_concurrently(
    pending: dict[str, TrainClassifierConfig], resources: ResourceConfig, max_concurrent: int
) -> None:
    """Train single-worker runs whose folders are open, up to `max_concurrent` concurrently.

    A run whose worker is lost resumes from its last epoch.

    Raises:
        UserError: too few resources, or the error of the first run that fails.
    """
    resources = resources.on_nodes(cluster_nodes())
    request = resources.need(resources.cpus_per_worker or 1)
    nodes = wait_for_resources(
        request, resources.wait_for_nodes, "lower --cpus-per-worker or --gpus-per-worker"
    )
    concurrent = min(max_concurrent, max_workers(request, nodes))
    cpus = resources.cpus_per_worker or max_cpus_per_worker(replace(request, workers=concurrent), nodes)
    logger.info(
        "training %s (%d in parallel, %s each)",
        ", ".join(pending),
        min(len(pending), concurrent),
        replace(request, cpus=cpus).each,
    )
    tasks = {}
    for name, config in pending.items():
        run = RunFolder(config.run)
        tasks[name] = TrainingTask(partial(_train_and_finish, owner=run.acquire()), config, run)
    run_tasks(tasks, resources, cpus)


def train_in_process(
    config: TrainClassifierConfig, owner: str | None = None, device: torch.device | None = None
) -> dict[str, Any]:
    """Train a run whose folder is open in this process, on `device` (default: CPU); return the summary."""
    import torch

    from pipeline.training.world import World

    return _train_and_finish(config, World(0, 1, device or torch.device("cpu")), owner)


def _train(config: TrainClassifierConfig, world: World, owner: str | None) -> dict[str, Any]:
    """Run the training loop, which is imported in the worker: the driver starts sooner without torch."""
    from pipeline.classifier.loop import train_loop

    return train_loop(config, world, owner)


def _train_and_finish(config: TrainClassifierConfig, world: World, owner: str | None) -> dict[str, Any]:
    """Train and mark the run as complete, independently of concurrent runs."""
    start_time = time.monotonic()
    result = _train(config, world, owner)
    return finish_run(config, result, time.monotonic() - start_time)


def describe_result(summary: dict[str, Any]) -> str:
    """Format a summary as one line."""
    text = f"{plural(summary['epochs'], 'epoch')} in {duration(summary['total_seconds'])}"
    text += " (stopped early)" if summary["stopped_early"] else ""
    if "val_loss" not in summary:
        return f"{text}, kept the last epoch"
    if "val_map" in summary:
        score = f"macro average precision {summary['val_map']:.3f}"
    else:
        score = f"accuracy {summary['val_accuracy']:.1%}"
    text += (
        f", kept epoch {summary['best_epoch']}: validation {score}, "
        f"macro-F1 {summary['val_macro_f1']:.3f}, loss {summary['val_loss']:.3f}"
    )
    unvalidated = summary.get("unvalidated_classes")
    return f"{text} (not validated: {name_list(unvalidated)})" if unvalidated else text
