"""Classifier runs from command to summary: started, resumed, or already complete.

A run that is trained again on all clips (`refit.py`) or an ensemble (`ensemble_run.py`) has other runs in its
folder, which are trained first, by the same functions.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from models.settings import ClassifierConfig
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.ensemble_run import describe_ensemble, finish_ensemble, member_configs
from pipeline.classifier.multi_label.label_mode import check_label_mode
from pipeline.classifier.refit import describe_refit, finish_refit, refit_config, validated_config
from pipeline.data.split_warnings import name_list
from pipeline.distributed.resource_config import ResourceConfig
from pipeline.distributed.resources import (
    cluster_nodes,
    max_cpus_per_worker,
    max_workers,
    wait_for_resources,
)
from pipeline.io.console import duration, logger
from pipeline.io.errors import UserError
from pipeline.io.text import plural
from pipeline.training.launch import fit, run_tasks
from pipeline.training.run import finish_run, log_once, seconds_before, start_run, training_clips
from pipeline.training.run_folder import RunFolder
from pipeline.training.single_worker_runs import TrainingTask
from pipeline.training.train_command import complete_run

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
    check_network(config.model)
    if config.refit and RunFolder(config.run).read_config() is None:
        training_clips(config)  # the split with validation, before the folder is created
    return start_run("train-classifier", config)


def check_network(model: ClassifierConfig) -> None:
    """Check that timm can build a network if it is one of timm's, before the run is created.

    Raises:
        UserError: timm is missing, or does not know the name.
    """
    if model.timm_name is None:
        return
    from models.backbones.timm_models import ModelError, check_timm  # with torch

    try:
        check_timm(model.timm_name)
    except ModelError as error:
        raise UserError(str(error)) from None


def train_classifier(config: TrainClassifierConfig) -> dict[str, Any]:
    """Train on the cluster, from the newest checkpoint of the run if there is one; return the summary.

    Raises:
        UserError: unusable shards or settings, too few resources, too many lost workers.
    """
    log_once(config.ineffective_settings)
    summary = complete_run(config, begin_run, lambda config: _train_pending({"": config}, 1)[""])
    print(describe_result(summary), flush=True)
    model = "model.safetensors" if config.ensemble == 1 else "member_*/model.safetensors"
    print(f"model: {config.run / model}", flush=True)
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
    _train_pending({name: config for name, config in runs.items() if begin_run(config) is None}, len(runs))


def _train_pending(pending: dict[str, TrainClassifierConfig], runs: int) -> dict[str, dict[str, Any]]:
    """Train runs whose folders are open, after the runs that they consist of; return their summaries.

    Args:
        pending: settings of each run by name, which are those of `train_many`.
        runs: number of runs, the complete ones included.
    """
    parts = {
        f"{name} {part}".strip(): config
        for name, whole in pending.items()
        for part, config in _parts(whole).items()
    }
    if parts:
        part_runs = runs * len(parts) // len(pending)
        _train_pending({name: part for name, part in parts.items() if begin_run(part) is None}, part_runs)
    return _train_wholes(pending, runs)


def _parts(config: TrainClassifierConfig) -> dict[str, TrainClassifierConfig]:
    """Return the settings of the runs that a run consists of, by name; none of an ordinary run."""
    if config.ensemble > 1:
        return member_configs(config)
    return {"validated": validated_config(config)} if config.refit else {}


def _train_wholes(pending: dict[str, TrainClassifierConfig], runs: int) -> dict[str, dict[str, Any]]:
    """Train runs whose parts are complete; arguments and result as `_train_pending`."""
    ensembles = {name: config for name, config in pending.items() if config.ensemble > 1}
    trained = {name: config for name, config in pending.items() if name not in ensembles}
    summaries = {name: finish_ensemble(config) for name, config in ensembles.items()}
    if not trained:
        return summaries
    resources = next(iter(trained.values())).subset(ResourceConfig)
    if runs > 1 and resources.workers == 1:
        return summaries | train_concurrently(trained, resources, runs)
    return summaries | {name: _train_alone(name, config) for name, config in trained.items()}


def _train_alone(name: str, config: TrainClassifierConfig) -> dict[str, Any]:
    """Train a run whose folder is open, on the workers that it requests; return its summary."""
    run = RunFolder(config.run)
    start_time = time.monotonic() - seconds_before(run)
    if not _log_resumption(name, run) and config.refit:
        logger.info("%straining again on all clips", f"{name}: " if name else "")
    loop = partial(_train, owner=run.acquire())
    result = fit(loop, config, config.subset(ResourceConfig), config.run)
    return _finish(config, result, time.monotonic() - start_time)


def _log_resumption(name: str, run: RunFolder) -> bool:
    """Log from which epoch a run is resumed; return whether it has one."""
    epochs_done = len(run.read_history())
    if epochs_done:
        logger.info("%sresuming from epoch %d", f"{name}: " if name else "", epochs_done)
    return epochs_done > 0


def train_concurrently(
    pending: dict[str, TrainClassifierConfig], resources: ResourceConfig, max_concurrent: int
) -> dict[str, dict[str, Any]]:
    """Train single-worker runs whose folders are open, up to `max_concurrent` concurrently.

    Returns their summaries by name.

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
        _log_resumption(name, run)
        tasks[name] = TrainingTask(partial(_train_and_finish, owner=run.acquire()), config, run)
    return run_tasks(tasks, resources, cpus)


def train_in_process(
    config: TrainClassifierConfig, owner: str | None = None, device: torch.device | None = None
) -> dict[str, Any]:
    """Train a run whose folder is open in this process, on `device` (default: CPU); return the summary."""
    import torch

    from pipeline.training.world import World

    for part in _parts(config).values():
        if begin_run(part) is None:
            train_in_process(part, RunFolder(part.run).acquire(), device)
    if config.ensemble > 1:
        return finish_ensemble(config)
    return _train_and_finish(config, World(0, 1, device or torch.device("cpu")), owner)


def _train(config: TrainClassifierConfig, world: World, owner: str | None) -> dict[str, Any]:
    """Run the training loop, which is imported in the worker: the driver starts sooner without torch."""
    from pipeline.classifier.loop import train_loop

    return train_loop(refit_config(config) if config.refit else config, world, owner)


def _train_and_finish(config: TrainClassifierConfig, world: World, owner: str | None) -> dict[str, Any]:
    """Train and mark the run as complete, independently of concurrent runs."""
    start_time = time.monotonic() - seconds_before(RunFolder(config.run))
    result = _train(config, world, owner)
    return _finish(config, result, time.monotonic() - start_time)


def _finish(config: TrainClassifierConfig, result: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Write the summary of a run, which marks it as complete; return it."""
    return finish_run(config, finish_refit(config, result) if config.refit else result, seconds)


def describe_result(summary: dict[str, Any]) -> str:
    """Format a summary as one line."""
    if "members" in summary:
        return describe_ensemble(summary)
    if "validated" in summary:
        return describe_refit(summary, describe_result(summary["validated"]))
    text = f"{plural(summary['epochs'], 'epoch')} in {duration(summary['total_seconds'])}"
    text += " (stopped early)" if summary["stopped_early"] else ""
    if "val_loss" not in summary:
        return f"{text}, kept the last epoch; without validation clips probabilities are not calibrated"
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
