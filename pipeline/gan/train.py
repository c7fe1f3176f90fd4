"""A GAN's run from its command to its summary: new, continued, or found finished."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from pipeline.distributed.resources import ResourceConfig
from pipeline.gan.config import TrainGanConfig
from pipeline.gan.loop import train_loop
from pipeline.gan.report_inputs import write_run_report
from pipeline.gan.train_reference_classifier import train_selection_classifier
from pipeline.io.console import duration
from pipeline.training.launch import fit
from pipeline.training.run import finish_run, start_run
from pipeline.training.run_folder import RunFolder


def train_gan(config: TrainGanConfig) -> dict[str, Any]:
    """Trains the judge and the GAN on the cluster, from the newest checkpoint of the run if there is one; returns the summary.

    Raises:
        UserError: unusable shards or settings, too few resources, too many lost workers or collapses.
    """
    run = RunFolder(config.run)
    summary = start_run("train-gan", config)
    if summary is None:
        start = time.monotonic()
        if config.select_best:
            train_selection_classifier(config)
        done = len(run.read_history())
        if done:
            print(f"going on after epoch {done}", flush=True)
        result = fit(
            partial(train_loop, owner=run.acquire()), config, config.subset(ResourceConfig), config.run
        )
        seconds = time.monotonic() - start
        write_run_report(config.run)
        summary = finish_run(config, result, seconds)
    else:
        print(f"the run in {config.run} is finished already", flush=True)
    print(describe_result(summary), flush=True)
    for what, name in (
        ("model", "model.safetensors"),
        ("samples", "samples"),
        ("animation", "samples/progress.gif"),
        ("report", "report.html"),
    ):
        print(f"{what}: {config.run / name}", flush=True)
    return summary


def describe_result(summary: dict[str, Any]) -> str:
    """The result in words."""
    text = f"{summary['epochs']} epochs in {duration(summary['total_seconds'])}, kept epoch {summary['best_epoch']}"
    if "frechet" in summary:
        text += f": {summary['class_accuracy']:.1%} of its samples recognised, Fréchet distance {summary['frechet']:.1f}"
    if summary["rollbacks"]:
        text += f"; went back from {summary['rollbacks']} collapses"
    return text
