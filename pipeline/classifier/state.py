"""Training state of the classifier: how it is prepared, published and restored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.classifier import Classifier
from models.ema import Ema
from models.repetition import repeat_short_clips
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.initial_weights import initialize, parameter_groups
from pipeline.classifier.multi_label.label_mode import is_multi_label
from pipeline.classifier.multi_label.targets import MultiLabelTargets, multi_label_targets, set_output_bias
from pipeline.data.dataset import ShardDataset
from pipeline.data.extra_rows import append_extra_rows
from pipeline.data.loader import BatchLoader, mel_statistics, statistics_rows
from pipeline.data.split import Split, split_rows
from pipeline.io.console import logger
from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.text import plural
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.compile import compile_model
from pipeline.training.epoch_position import EpochPosition, PositionTensors, read_position
from pipeline.training.log import RunLog
from pipeline.training.model_file import ClassifierMetadata, create_classifier, save_model
from pipeline.training.optim import (
    autocast,
    load_optimizer,
    optimizer_tensors,
    reset_scaler,
    resolve_precision,
    set_float32_precision,
)
from pipeline.training.optimizers import AdamW
from pipeline.training.placement import TrainingData, open_data
from pipeline.training.step_runner import FlatGradients, StepRunner
from pipeline.training.world import World


@dataclass
class TrainState:
    """Training state of one worker; all that changes during training is saved in checkpoints."""

    config: TrainClassifierConfig
    world: World
    dataset: ShardDataset
    split: Split
    loader: BatchLoader
    labels: np.ndarray
    """Class of each row, those of the extra shards last; of several classes the rarest, C without any."""
    data: TrainingData
    """Datasets, and which worker reads which rows."""
    model: Classifier
    wrapped_model: nn.Module
    """`model` wrapped in DDP for several workers, and compiled with `--compile`; shares its weights."""
    ema: Ema[Classifier]
    optimizer: torch.optim.Optimizer
    autocast: Callable[[], torch.autocast]
    scaler: torch.amp.GradScaler
    """Scales the loss for float16, whose small gradients would vanish; does nothing for other precisions."""
    gradients: FlatGradients | None
    """On GPUs the gradients, averaged over workers between the parts of a step; on CPUs DDP averages them."""
    runner: StepRunner
    class_weight_C: Tensor | None
    statistics_rows: np.ndarray
    """Training rows that every rank can read, from which statistics are computed."""
    multi_label: MultiLabelTargets | None = None
    """Targets of a multi-label run; None if each clip has one class."""
    initial_weights: str = ""
    """Which weights the training starts from, if they are not random."""
    step: int = 0
    epoch: int = 0
    """Finished epochs."""
    epoch_step: int = 0
    """Finished steps at the start of the epoch."""
    best_score: list[float] = field(default_factory=list)
    best_epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    """Metrics of each finished epoch."""
    thresholds: tuple[float, ...] | None = None
    """Thresholds of a multi-label run, chosen by the newest validation, on the validation clips."""
    position: EpochPosition | None = None
    """Where the current epoch continues; None at its start."""

    @property
    def steps_per_epoch(self) -> int:
        """Global batches of an epoch."""
        return steps_per_epoch(self.config, self.split)

    @property
    def swa_start(self) -> int | None:
        """First step of stochastic weight averaging, counted from 0; None without it."""
        return self.ema.mean_from


def steps_per_epoch(config: TrainClassifierConfig, split: Split) -> int:
    """Return the number of global batches of an epoch."""
    return max(1, -(-len(split.train) // config.batch_size))


def prepare(config: TrainClassifierConfig, world: World) -> TrainState:
    """Load the data and create network and optimizer, the same on all ranks.

    Raises:
        UserError: unusable shards or settings.
    """
    data = open_data(config, world, config.batch_size)
    dataset, *extra_datasets = data.datasets
    split = split_rows(dataset, config)
    labels, all_rows = append_extra_rows(dataset, split, extra_datasets)
    multi_label = None
    if is_multi_label(config, data.datasets):
        multi_label = multi_label_targets(config, data.datasets, all_rows.train, world.device)
    _check_workers(len(split.train), len(all_rows.train), config.batch_size, world.size)
    _check_averaging(config, all_rows)
    sampled = statistics_rows(data.sampled(split.train))
    data.train_on(world, all_rows.train, sampled)
    torch.manual_seed(config.seed)
    model = create_classifier(config.model, dataset.features.mel.n_mels, len(dataset.class_names))
    _set_statistics(model, dataset.mels, sampled)
    if multi_label is not None:
        set_output_bias(model, multi_label.prior_C)
    initial_weights = initialize(model, config, dataset, world)
    model = model.to(world.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    set_float32_precision(config.precision)
    is_gpu = world.device.type == "cuda"
    if is_gpu:
        world.broadcast(list(model.state_dict().values()))
    wrapped_model = model if is_gpu else world.wrap(model)
    dtype = resolve_precision(config.precision, world.device, fp16=True)
    scaler = torch.amp.GradScaler(world.device.type, enabled=dtype == torch.float16)
    optimizer = AdamW(parameter_groups(model, config, world.device), fused=True, capturable=is_gpu)
    return TrainState(
        config=config,
        world=world,
        dataset=dataset,
        split=all_rows,
        loader=data.loader(world.device, config.gpu_bytes(world.device)),
        labels=labels,
        data=data,
        model=model,
        wrapped_model=compile_model(wrapped_model, config.compile),
        ema=Ema(model, config.ema_decay, _swa_start(config, all_rows)),
        optimizer=optimizer,
        autocast=autocast(config.precision, world.device, fp16=True),
        scaler=scaler,
        gradients=FlatGradients(model) if is_gpu else None,
        runner=StepRunner(
            world.device,
            config.cuda_graphs and not model.has_collectives,
            logger.warning,
            partial(reset_scaler, scaler, optimizer),
        ),
        class_weight_C=_class_weights(labels[all_rows.train], len(dataset.class_names), world.device)
        if config.class_weights and multi_label is None
        else None,
        statistics_rows=sampled,
        multi_label=multi_label,
        initial_weights=initial_weights,
    )


def _set_statistics(model: Classifier, mels: np.ndarray, rows: np.ndarray) -> None:
    """Set mean and standard deviation of each mel band of the input of a network."""
    repeat = repeat_short_clips if model.repeats_short_clips else None
    model.set_statistics(*mel_statistics(mels, rows, transform=repeat))
    pcen = model.pcen
    if pcen is not None:
        pcen.set_statistics(
            *mel_statistics(
                mels, rows, transform=lambda mel_1MT: pcen.compress(repeat(mel_1MT) if repeat else mel_1MT)
            )
        )


def _swa_start(config: TrainClassifierConfig, split: Split) -> int | None:
    """Return the first step of stochastic weight averaging; None without it."""
    return round(config.decay_epochs * steps_per_epoch(config, split)) if config.swa_fraction else None


def _check_averaging(config: TrainClassifierConfig, split: Split) -> None:
    """Check that there are weights to average with stochastic weight averaging.

    Raises:
        UserError: the averaging would begin after the last step.
    """
    steps, start = config.epochs * steps_per_epoch(config, split), _swa_start(config, split)
    if start is not None and start >= steps:
        raise UserError(
            f"--swa-fraction {config.swa_fraction:g}: no step to average the weights of in a training of "
            f"{plural(steps, 'step')}; raise it"
        )


def _check_workers(clips: int, rows: int, batch_size: int, workers: int) -> None:
    """Check that each worker has a row of every batch: without one, its batch norm would have no mean.

    Args:
        clips: training rows without those of additional datasets.
        rows: all training rows.
        batch_size: maximum size of a batch.
        workers: number of workers.

    Raises:
        UserError: too many workers.
    """
    if clips < 2 * workers:
        raise UserError(
            f"--workers {workers}: too many workers for {clips} training rows (need at least 2 per worker)"
        )
    smallest = rows // -(-rows // batch_size)
    if smallest < workers:
        raise UserError(
            f"--workers {workers}: too many workers for batches of {smallest} rows; "
            f"lower it, or raise --batch-size (now {batch_size})"
        )


def publish(state: TrainState, checkpoints: Checkpoints, log: RunLog, improved: bool) -> None:
    """Write the model if it improved, then the checkpoint, then the log.

    In this order a crash in between repeats the epoch and nothing else.
    """
    with report_os_errors("writing to", state.config.run):
        if improved:
            _save_model(state)
        write_checkpoint(state, checkpoints)
        log.epoch(state.history)


def write_checkpoint(
    state: TrainState,
    checkpoints: Checkpoints,
    position: PositionTensors | None = None,
) -> None:
    """Write the state; within an epoch with the tensors and values of `position_tensors`.

    Raises:
        UserError: it cannot be written.
    """
    tensors = {
        "model": state.model.state_dict(),
        "ema": state.ema.model.state_dict(),
        "optimizer": optimizer_tensors(state.model, state.optimizer),
    }
    values = {
        "step": state.step,
        "epoch": state.epoch,
        "best_score": state.best_score,
        "best_epoch": state.best_epoch,
        "ema_step": state.ema.step,
        "grad_scaler": state.scaler.state_dict(),
        "history": state.history,
    }
    with report_os_errors("writing to", state.config.run):
        checkpoints.write(state.epoch, tensors, values, position)


def restore(state: TrainState, tensors: dict[str, dict[str, Tensor]], values: dict[str, Any]) -> None:
    """Restore a state from the tensors and values of a checkpoint, in place."""
    state.model.load_state_dict(tensors["model"])
    state.ema.model.load_state_dict(tensors["ema"])
    load_optimizer(state.model, state.optimizer, tensors["optimizer"])
    state.step, state.epoch, state.ema.step = values["step"], values["epoch"], values["ema_step"]
    state.best_score, state.best_epoch = values["best_score"], values["best_epoch"]
    state.history = values["history"]
    if values.get("grad_scaler"):
        state.scaler.load_state_dict(values["grad_scaler"])
    state.position = read_position(state.world, tensors, values)
    if state.position is None:
        # The checkpoint of another trial (PBT) may have other steps in an epoch, and rates follow the epochs.
        state.step = state.ema.step = state.epoch * state.steps_per_epoch


def _save_model(state: TrainState) -> None:
    """Write the EMA weights, with the metadata that inference needs."""
    class_names, train = state.dataset.class_names, state.split.train
    if state.multi_label is None:
        counts = np.bincount(state.labels[train], minlength=len(class_names))
    else:
        counts = state.multi_label.classes.counts(train)
    training = {
        **state.history[-1],
        "rows": len(train),
        "class_counts": dict(zip(class_names, counts.tolist(), strict=True)),
        "config": state.config.identity(),
    }
    metadata = ClassifierMetadata(
        model=state.config.model,
        features=state.dataset.features,
        class_names=class_names,
        training=training,
        temperature=state.history[-1].get("temperature", 1.0),
        multi_label=state.multi_label is not None,
        thresholds=state.thresholds,
    )
    save_model(state.config.run, state.ema.model, metadata)


def _class_weights(labels: np.ndarray, num_classes: int, device: torch.device) -> Tensor:
    """Return the inverse frequency of each class, scaled to 1 for balanced classes `[shape=(C,)]`."""
    counts = np.bincount(labels, minlength=num_classes)
    return torch.tensor(
        counts.sum() / np.maximum(counts, 1) / len(counts), dtype=torch.float32, device=device
    )
