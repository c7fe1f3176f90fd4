"""A classifier's run from its command to its summary: new, continued, or found finished."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from pipeline.cache import set_digest
from pipeline.classifier_config import TrainClassifierConfig
from pipeline.fit import fit
from pipeline.progress import duration
from pipeline.run_folder import RunFolder
from pipeline.shards import open_shards
from pipeline.train_classifier import train_loop
from pipeline.training_config import ResourceConfig


def begin_run(config: TrainClassifierConfig) -> dict[str, Any] | None:
    """Opens the run's folder; returns its summary where it is finished already.

    Raises:
        UserError: unusable shards, or a folder that holds another run.
    """
    run = RunFolder(config.run)
    run.begin("train-classifier", config.identity(), config.shards, set_digest(open_shards(config.shards)))
    return run.read_json("summary.json")


def finish_run(config: TrainClassifierConfig, result: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Writes the summary, which marks the run as finished."""
    summary = {**result, "total_seconds": seconds}
    RunFolder(config.run).write_json("summary.json", summary)
    return summary


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
        loop = partial(train_loop, owner=RunFolder(config.run).claim())
        result = fit(loop, config, config.part(ResourceConfig), config.run)
        summary = finish_run(config, result, time.monotonic() - start)
    else:
        print(f"the run in {config.run} is finished already", flush=True)
    print(describe(summary), flush=True)
    print(f"model: {config.run / 'model.safetensors'}", flush=True)
    return summary


def describe(summary: dict[str, Any]) -> str:
    """The result in words."""
    text = f"{summary['epochs']} epochs in {duration(summary['total_seconds'])}"
    text += " (stopped early)" if summary["stopped_early"] else ""
    if "val_loss" not in summary:
        return f"{text}, kept the last"
    return (
        f"{text}, kept epoch {summary['best_epoch']}: validation accuracy {summary['val_accuracy']:.1%}, "
        f"macro-F1 {summary['val_macro_f1']:.3f}, loss {summary['val_loss']:.3f}"
    )
