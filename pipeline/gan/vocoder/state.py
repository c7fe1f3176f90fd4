"""State of a vocoder's training: how it starts, what is saved, and how it continues."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.vocoder import VocoderLoss, VocoderNetwork
from pipeline.audio.mel import MelConfig, filter_bank_of
from pipeline.data.dataset import ShardDataset, open_dataset
from pipeline.data.loader import subsample_evenly
from pipeline.data.split import split_rows
from pipeline.gan.vocoder.clips import Clips, SegmentSampler, read_clips
from pipeline.gan.vocoder.config import TrainVocoderConfig
from pipeline.io.errors import UserError
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.epoch_results import publish_epoch
from pipeline.training.log import RunLog
from pipeline.training.model_file import VocoderMetadata, create_vocoder, save_model
from pipeline.training.optim import autocast, load_optimizer, optimizer_tensors, set_float32_precision
from pipeline.training.run_folder import RunFolder
from pipeline.training.world import World

# Clips of a validation.
MAX_VALIDATION_CLIPS = 32


@dataclass
class VocoderTrainState:
    """Everything that the training of a vocoder reads and changes."""

    config: TrainVocoderConfig
    world: World
    dataset: ShardDataset
    network: VocoderNetwork
    loss: VocoderLoss
    optimizer: torch.optim.Optimizer
    autocast: Callable[[], Any]
    sampler: SegmentSampler
    validation: Clips | None
    """Clips to validate on; None without any, or if their audio is gone."""
    missing: int
    """Clips to train on whose audio is gone."""
    epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    position: None = None
    """There are no checkpoints within epochs, which are short."""

    @property
    def best_epoch(self) -> int:
        """The last epoch, whose learning rate is the lowest."""
        return self.epoch

    @best_epoch.setter
    def best_epoch(self, value: int) -> None:
        raise AssertionError("the last epoch is always the best one")


def prepare(config: TrainVocoderConfig, world: World) -> VocoderTrainState:
    """Read the clips and build the network; the same on all ranks.

    Raises:
        UserError: on every rank, with the same text: unusable shards, or audio that is gone.
    """
    torch.manual_seed(config.seed)
    dataset = open_dataset(config.shards)
    mel = dataset.features.mel
    network = create_vocoder(config.vocoder, mel).to(world.device)
    set_float32_precision(config.precision)
    split = split_rows(dataset, config)
    copies = dataset.table["copy"].to_numpy()
    rows = subsample_evenly(split.train[copies[split.train] == 0], config.max_clips)
    clips = world.run_on_all_ranks(partial(read_clips, dataset, rows))
    validation = world.run_on_all_ranks(partial(_validation_clips, dataset, split.val))
    frames = min(mel.num_frames(round(config.segment_seconds * mel.sample_rate)), dataset.features.shape[1])
    if dataset.features.shape[1] < 2:
        raise UserError(
            f"--shards {config.shards}: clips of {dataset.features.seconds:g} s have a single frame, and a "
            "vocoder needs two: extract with a smaller --features.mel.hop-length"
        )
    if frames < 2:
        raise UserError(f"--segment-seconds {config.segment_seconds:g}: shorter than two frames; raise it")
    return VocoderTrainState(
        config=config,
        world=world,
        dataset=dataset,
        network=network,
        loss=_create_loss(mel, (frames - 1) * mel.hop_length).to(world.device),
        optimizer=torch.optim.AdamW(network.parameters(), config.learning_rate, betas=(0.8, 0.99)),
        autocast=autocast(config.precision, world.device),
        sampler=SegmentSampler(clips, frames, mel, config.level_db),
        validation=validation,
        missing=clips.missing,
    )


def _validation_clips(dataset: ShardDataset, rows: np.ndarray) -> Clips | None:
    try:
        return read_clips(dataset, subsample_evenly(rows, MAX_VALIDATION_CLIPS))
    except UserError:  # also without any rows
        return None


def _create_loss(mel: MelConfig, num_samples: int) -> VocoderLoss:
    """Return the loss, with windows of a half to an eighth of the spectrograms' that fit into segments."""
    windows = [size for power in (1, 2, 3) if (size := mel.n_fft // 2**power) < num_samples]
    return VocoderLoss(torch.from_numpy(filter_bank_of(mel)), mel.n_fft, mel.hop_length, windows)


def publish(state: VocoderTrainState, checkpoints: Checkpoints, log: RunLog, owner: str | None) -> None:
    """Write checkpoint, model and log, as `publish_epoch`."""
    publish_epoch(
        RunFolder(state.config.run),
        owner,
        partial(_write_checkpoint, state, checkpoints),
        partial(save_current_model, state),
        partial(log.epoch, state.history),
    )


def _write_checkpoint(state: VocoderTrainState, checkpoints: Checkpoints) -> None:
    tensors = {
        "network": state.network.state_dict(),
        "optimizer": optimizer_tensors(state.network, state.optimizer),
    }
    checkpoints.write(state.epoch, tensors, {"epoch": state.epoch, "history": state.history})


def save_current_model(state: VocoderTrainState) -> None:
    """Write the network, with the metadata that generation needs."""
    metadata = VocoderMetadata(
        model=state.config.vocoder,
        features=state.dataset.features,
        training={**state.history[-1], "config": state.config.identity()},
    )
    save_model(state.config.run, state.network, metadata)


def restore(state: VocoderTrainState, tensors: dict[str, dict[str, Tensor]], values: dict[str, Any]) -> None:
    """Load a checkpoint, as `Checkpoints.read` returns it, into the state."""
    state.network.load_state_dict(tensors["network"])
    load_optimizer(state.network, state.optimizer, tensors["optimizer"])
    state.epoch, state.history = values["epoch"], values["history"]
