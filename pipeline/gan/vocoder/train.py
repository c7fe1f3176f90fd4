"""Command `melray train-vocoder`: start, resume or report a run."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import torch

from pipeline.data.dataset import ShardDataset, open_dataset
from pipeline.data.loader import subsample_evenly
from pipeline.data.split import split_rows
from pipeline.distributed.resource_config import ResourceConfig
from pipeline.gan.sampling import one_thread
from pipeline.gan.vocoder.clips import Clips, read_clips
from pipeline.gan.vocoder.config import TrainVocoderConfig
from pipeline.gan.vocoder.loop import train_loop
from pipeline.gan.vocoder.scores import score_vocoder
from pipeline.gan.vocoder.state import MAX_VALIDATION_CLIPS
from pipeline.io.console import duration, logger
from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.text import plural
from pipeline.training.launch import fit
from pipeline.training.model_file import load_vocoder
from pipeline.training.run import finish_run, seconds_before, start_run
from pipeline.training.run_folder import RunFolder
from pipeline.training.train_command import complete_run


def train_vocoder(config: TrainVocoderConfig) -> dict[str, Any]:
    """Train a vocoder, resuming from the newest checkpoint if any, and score it.

    Returns:
        The summary of the run.

    Raises:
        UserError: unusable shards or settings, audio that is gone, too few resources, or too many lost
            workers.
    """
    summary = complete_run(config, partial(start_run, "train-vocoder"), _train)
    print(describe_result(summary), flush=True)
    for label, name in (("model", "model.safetensors"), ("sounds", "sounds")):
        print(f"{label}: {config.run / name}", flush=True)
    return summary


def _train(config: TrainVocoderConfig) -> dict[str, Any]:
    """Train a run whose folder is open; return its summary."""
    run = RunFolder(config.run)
    start_time = time.monotonic() - seconds_before(run)
    if epochs := len(run.read_history()):
        logger.info("resuming from epoch %d", epochs)
    result = fit(partial(train_loop, owner=run.acquire()), config, config.subset(ResourceConfig), config.run)
    seconds = time.monotonic() - start_time
    return finish_run(config, result | _score(config), seconds)


def _score(config: TrainVocoderConfig) -> dict[str, Any]:
    """Score the vocoder on clips that it was not trained on; nothing if there are none with audio."""
    dataset = open_dataset(config.shards)
    clips = _unseen_clips(dataset, config)
    if clips is None:
        logger.warning("no clips with audio that were not trained on: the vocoder is not scored")
        return {}
    logger.info("comparing with Griffin-Lim alone on %s", plural(len(clips.samples), "clip"))
    folder = config.run / "sounds"
    with report_os_errors("writing to", folder), one_thread(torch.device("cpu")):
        folder.mkdir(parents=True, exist_ok=True)
        return score_vocoder(load_vocoder(config.run).model, clips, dataset.features, folder)


def _unseen_clips(dataset: ShardDataset, config: TrainVocoderConfig) -> Clips | None:
    """Read held-out and validation clips, by which nothing is chosen; None if there are none."""
    rows = split_rows(dataset, config).evaluated
    try:
        return read_clips(dataset, subsample_evenly(rows, MAX_VALIDATION_CLIPS))
    except UserError:
        return None


def describe_result(summary: dict[str, Any]) -> str:
    """Format a summary as one line."""
    text = f"{plural(summary['epochs'], 'epoch')} in {duration(summary['total_seconds'])}"
    if "vocoder" not in summary:
        return text
    vocoder, alone = summary["vocoder"], summary["griffin_lim"]
    return (
        f"{text}; error of spectra {vocoder['spectrum_db']:.2f} dB, of log-mel spectrograms "
        f"{vocoder['mel_db']:.3f} dB (Griffin-Lim alone {alone['spectrum_db']:.2f} and {alone['mel_db']:.3f})"
    )
