"""Command `melray train-gan`: start, resume or report a run."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from pipeline.data.dataset import open_dataset
from pipeline.data.rows import read_rows
from pipeline.data.split import split_rows
from pipeline.distributed.devices import driver_device
from pipeline.distributed.resource_config import ResourceConfig
from pipeline.gan.config import TrainGanConfig
from pipeline.gan.data_checks import check_dataset, check_rows, check_values
from pipeline.gan.initial_networks import check_initial_run
from pipeline.gan.loop import train_loop
from pipeline.gan.report_inputs import write_run_report
from pipeline.gan.selection_clips import MIN_CLIPS
from pipeline.gan.train_reference_classifier import (
    delete_selection_classifier_of_other_clips,
    train_selection_classifier,
)
from pipeline.gan.variety import variety_warnings
from pipeline.io.console import duration, logger
from pipeline.io.text import plural
from pipeline.training.launch import fit
from pipeline.training.run import finish_run, seconds_before, start_run
from pipeline.training.run_folder import RunFolder
from pipeline.training.train_command import complete_run


def train_gan(config: TrainGanConfig) -> dict[str, Any]:
    """Train the selection classifier and the GAN on the cluster, resuming from the newest checkpoint if any.

    Returns:
        The summary of the run.

    Raises:
        UserError: unusable shards or settings, too few resources, too many lost workers or collapses.
    """
    check_dataset(config.shards, config.monitor, "--monitor")
    check_initial_run(config)
    summary = complete_run(config, partial(start_run, "train-gan"), _train)
    print(describe_result(summary), flush=True)
    for label, name in (
        ("model", "model.safetensors"),
        ("samples", "samples"),
        ("training animation", "samples/progress.gif"),
        ("report", "report.html"),
    ):
        print(f"{label}: {config.run / name}", flush=True)
    return summary


def _train(config: TrainGanConfig) -> dict[str, Any]:
    """Train a run whose folder is open; return its summary."""
    run = RunFolder(config.run)
    start_time = time.monotonic() - seconds_before(run)
    check_clips(config)
    if config.select_best:
        train_selection_classifier(config)
    else:  # else `generate --min-confidence` would use it
        delete_selection_classifier_of_other_clips(config)
    if epochs := len(run.read_history()):
        logger.info("resuming from epoch %d", epochs)
    result = fit(partial(train_loop, owner=run.acquire()), config, config.subset(ResourceConfig), config.run)
    seconds = time.monotonic() - start_time
    write_run_report(config.run, device=driver_device(config.device))
    return finish_run(config, result, seconds)


def check_clips(config: TrainGanConfig) -> None:
    """Log warnings about the training clips, before minutes or hours of training.

    Raises:
        UserError: unusable shards, or as `check_rows`.
    """
    dataset = read_rows(config.shards)
    split = split_rows(dataset, config)
    check_rows(dataset, split, config, config.workers)
    if config.data_placement == "replicated":
        check_values(open_dataset(config.shards), split.train, config.shards)
    if config.select_best and len(split.val) < MIN_CLIPS:
        logger.warning(
            "--select-best: %s to select an epoch by, so the last one is kept; raise --val-fraction, or add "
            "--no-select-best, which trains no reference classifier (that of `generate --min-confidence`)",
            plural(len(split.val), "validation clip"),
        )
    rows = dataset.table.iloc[split.train]
    for warning in variety_warnings(rows[rows["copy"] == 0]):
        logger.warning("%s", warning)


def describe_result(summary: dict[str, Any]) -> str:
    """Format a summary as one line of text."""
    text = f"{plural(summary['epochs'], 'epoch')} in {duration(summary['total_seconds'])}"
    text += f", kept epoch {summary['best_epoch']}"
    scores = []
    if "class_accuracy" in summary:
        scores.append(f"class accuracy of samples {summary['class_accuracy']:.1%}")
    if "frechet" in summary:
        scores.append(f"Fréchet distance {summary['frechet']:.1f}")
    if scores:
        text += f": {', '.join(scores)}"
    if count := summary["rollbacks"]:
        text += f"; {count} rollback{'s' if count > 1 else ''} after collapse"
    return text
