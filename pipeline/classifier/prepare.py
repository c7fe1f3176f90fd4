"""Preparation of a training run of the classifier: data, network, optimizer, and what cannot be trained."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from models.acoustics import Acoustics
from models.classifier import Classifier
from models.ema import Ema
from models.repetition import repeat_short_clips
from models.texture_statistics import texture_statistics
from pipeline.audio.features import FeatureConfig
from pipeline.audio.room_noise import acoustics_of
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.initial_weights import initialize, parameter_groups
from pipeline.classifier.multi_label.label_mode import is_multi_label
from pipeline.classifier.multi_label.targets import MultiLabelTargets, multi_label_targets, set_output_bias
from pipeline.classifier.state import TrainState, steps_per_epoch
from pipeline.data.dataset import ShardDataset
from pipeline.data.extra_rows import append_extra_rows
from pipeline.data.loader import input_statistics, statistics_rows
from pipeline.data.split import Split, split_rows
from pipeline.io.console import logger
from pipeline.io.errors import UserError
from pipeline.io.text import plural
from pipeline.training.compile import compile_model
from pipeline.training.model_file import create_classifier
from pipeline.training.optim import (
    autocast,
    reset_scaler,
    resolve_precision,
    set_float32_precision,
)
from pipeline.training.optimizers import AdamW
from pipeline.training.placement import open_data
from pipeline.training.step_runner import FlatGradients, StepRunner
from pipeline.training.world import World


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
        multi_label = multi_label_targets(config, data.datasets, labels, all_rows.train, world.device)
    _check_workers(len(split.train), len(all_rows.train), config.batch_size, world.size)
    _check_averaging(config, all_rows)
    sampled = statistics_rows(data.sampled(split.train))
    data.train_on(world, all_rows.train, sampled)
    model, initial_weights = _create_model(config, world, dataset, sampled, multi_label)
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
        acoustics=_acoustics(config, dataset.features, world.device),
        multi_label=multi_label,
        initial_weights=initial_weights,
    )


def _create_model(
    config: TrainClassifierConfig,
    world: World,
    dataset: ShardDataset,
    sampled: np.ndarray,
    multi_label: MultiLabelTargets | None,
) -> tuple[Classifier, str]:
    """Return the network on its device, and lines for the log about weights that it has of another run.

    The statistics of its inputs are those of the rows `sampled`.
    """
    torch.manual_seed(config.seed)
    model = create_classifier(
        config.model, dataset.features.mel.n_mels, len(dataset.class_names), multi_label is not None
    )
    _set_statistics(model, dataset.mels, sampled)
    if multi_label is not None:
        set_output_bias(model, multi_label.prior_C)
    initial_weights = initialize(model, config, dataset, world)
    model = model.to(world.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model, initial_weights


def _set_statistics(model: Classifier, mels: np.ndarray, rows: np.ndarray) -> None:
    """Set mean and standard deviation of each mel band and statistic of the inputs of a network."""

    def inputs_of(mel_BMT: Tensor) -> list[Tensor]:
        mel_BMT = repeat_short_clips(mel_BMT) if model.repeats_short_clips else mel_BMT
        inputs = [mel_BMT]
        if model.pcen is not None:
            inputs.append(model.pcen.compress(mel_BMT))
        if model.texture is not None:
            inputs.append(texture_statistics(mel_BMT)[:, :, None])
        return inputs

    parts = [part for part in (model, model.pcen, model.texture) if part is not None]
    for part, (mean, std) in zip(parts, input_statistics(mels, rows, inputs_of), strict=True):
        part.set_statistics(mean, std)


def _acoustics(
    config: TrainClassifierConfig, features: FeatureConfig, device: torch.device
) -> Acoustics | None:
    """Return what adds rooms and noise to training clips; None without that augmentation."""
    if not (config.spec_augment.has_acoustics and config.augmentation_strength):
        return None
    return acoustics_of(features, device)


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
            f"--swa-fraction {config.swa_fraction:g}: no step to average the weights of in a run of "
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


def _class_weights(labels: np.ndarray, num_classes: int, device: torch.device) -> Tensor:
    """Return the inverse frequency of each class, scaled to 1 for balanced classes `[shape=(C,)]`."""
    counts = np.bincount(labels, minlength=num_classes)
    return torch.tensor(
        counts.sum() / np.maximum(counts, 1) / len(counts), dtype=torch.float32, device=device
    )
