"""Training state of the GAN on one worker: build it, write it to a checkpoint, restore it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.ema import Ema
from models.gan import Discriminator, Generator
from pipeline.data.dataset import ShardDataset
from pipeline.data.loader import BatchLoader, mel_statistics, statistics_rows, subsample_evenly
from pipeline.data.split import Split, split_rows
from pipeline.gan.config import TrainGanConfig
from pipeline.gan.data_checks import check_rows, check_values
from pipeline.gan.initial_networks import (
    InitialNetworks,
    describe_initial_networks,
    read_initial_networks,
)
from pipeline.gan.networks import create_networks, create_optimizers
from pipeline.gan.real_variety import measure_variety, variety_rows
from pipeline.gan.selection_clips import selection_rows
from pipeline.gan.snapshots import SnapshotWriter, real_clip_rows
from pipeline.io.console import logger
from pipeline.io.errors import UserError, report_os_errors
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.compile import compile_model
from pipeline.training.epoch_position import EpochPosition, PositionTensors, read_position
from pipeline.training.epoch_results import publish_epoch
from pipeline.training.log import RunLog
from pipeline.training.model_file import GeneratorMetadata, save_model
from pipeline.training.optim import (
    autocast,
    load_optimizer,
    optimizer_tensors,
    reset_optimizer,
    set_float32_precision,
)
from pipeline.training.placement import TrainingData, open_data
from pipeline.training.run_folder import RunFolder
from pipeline.training.step_runner import FlatGradients, StepRunner
from pipeline.training.world import World

# Fields of the state that a checkpoint holds in addition to tensors and history.
SCALARS = ("step", "epoch", "lr_scale", "rollbacks", "best_score", "best_epoch")
# Validation clips of other nodes to which samples are compared.
MAX_FETCHED_CLIPS = 2000


@dataclass
class GanTrainState:
    """Training state of one worker; all that changes during training is saved in checkpoints."""

    config: TrainGanConfig
    world: World
    dataset: ShardDataset
    split: Split
    loader: BatchLoader
    labels: np.ndarray
    data: TrainingData
    """Dataset, and which worker reads which rows."""
    generator: Generator
    discriminator: Discriminator
    ema: Ema[Generator]
    optimizers: dict[str, torch.optim.Optimizer]
    autocast: Callable[[], Any]
    generator_forward: Callable[..., Tensor]
    """`generator`, compiled with `--compile`."""
    snapshots: SnapshotWriter
    real_diversity: dict[int, float]
    """Diversity of the real clips of each class in dB, to which that of generated clips is compared."""
    real_difference_C: Tensor
    """Mean absolute difference of two real clips of each class, in standard deviations of each mel band; 0 if
    its real clips do not differ, for which there is no diversity loss."""
    gradients: dict[str, FlatGradients]
    """On GPUs the gradients of both networks by name; empty on CPUs."""
    runner: StepRunner
    ada_p: Tensor
    """Augmentation probability, a scalar on the device, which changes without synchronization."""
    initial: InitialNetworks | None
    """Networks that the training starts from instead of random ones; None in a run with a checkpoint."""
    step: int = 0
    epoch: int = 0
    epoch_step: int = 0
    """Finished steps at the start of the epoch."""
    lr_scale: float = 1.0
    rollbacks: int = 0
    best_score: float | None = None
    """Value of `config.monitor` in the best epoch; None without a score."""
    best_epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    pending_collapse: str = ""
    """Description of the last collapse until it is logged with the next good epoch."""
    position: EpochPosition | None = None
    """Where the current epoch continues; None at its start."""

    @property
    def initial_note(self) -> str:
        """What the training starts from, for its log; empty for random networks."""
        if self.initial is None:
            return ""
        return describe_initial_networks(self.initial, self.generator, self.discriminator, self.dataset)

    @property
    def passes_per_epoch(self) -> int:
        """Passes over the training rows in each epoch."""
        return max(1, -(-self.config.epoch_steps // self._batches_per_pass))

    @property
    def steps_per_epoch(self) -> int:
        return self.passes_per_epoch * self._batches_per_pass

    @property
    def total_steps(self) -> int:
        return self.config.epochs * self.steps_per_epoch

    @property
    def _batches_per_pass(self) -> int:
        return max(1, -(-len(self.split.train) // self.config.batch_size))


def prepare(config: TrainGanConfig, world: World) -> GanTrainState:
    """Load the data and create networks and optimizers, the same on all ranks.

    Raises:
        UserError: unusable shards, or as `check_rows`.
    """
    data = open_data(config, world, config.batch_size)
    dataset, split = data.datasets[0], split_rows(data.datasets[0], config)
    check_rows(dataset, split, config, world.size)
    selecting = selection_rows(dataset, split, config)
    sampled = replace(split, train=data.sampled(split.train), val=data.sampled(selecting))
    if data.partition is not None:
        sampled = replace(sampled, val=subsample_evenly(sampled.val, MAX_FETCHED_CLIPS))
    statistics, variety = statistics_rows(sampled.train), variety_rows(dataset, sampled)
    shown, _ = real_clip_rows(dataset, split, config.samples_per_class)
    needed = np.unique(np.concatenate([statistics, variety, shown, sampled.val]))
    data.train_on(world, split.train, needed)
    checked = split.train if data.partition is None else statistics
    world.run_on_all_ranks(partial(check_values, dataset, checked, config.shards))
    initial = read_initial_networks(config, world)
    generator, discriminator = create_networks(
        config, dataset, *mel_statistics(dataset.mels, statistics), initial
    )
    networks: dict[str, nn.Module] = {"generator": generator, "discriminator": discriminator}
    set_float32_precision(config.precision)
    is_gpu = world.device.type == "cuda"
    for model in networks.values():
        model.to(world.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if is_gpu:
            world.broadcast(list(model.state_dict().values()))
    real_diversity, real_difference_C = measure_variety(dataset, variety, generator.mel_std_M.cpu().numpy())
    state = GanTrainState(
        config=config,
        world=world,
        dataset=dataset,
        split=split,
        loader=data.loader(world.device, config.gpu_bytes(world.device)),
        labels=dataset.labels,
        data=data,
        generator=generator,
        discriminator=discriminator,
        ema=Ema(generator, config.ema_decay),
        optimizers=create_optimizers(config, generator, discriminator, world.device),
        autocast=autocast(config.precision, world.device),
        # Not the discriminator: compiled code does not support double backward.
        generator_forward=compile_model(generator, config.compile and _can_compile(world.device)),
        snapshots=SnapshotWriter(config, dataset, replace(split, val=sampled.val), real_diversity),
        real_diversity=real_diversity,
        real_difference_C=torch.from_numpy(real_difference_C).to(world.device),
        gradients={name: FlatGradients(model) for name, model in networks.items()} if is_gpu else {},
        runner=StepRunner(world.device, config.cuda_graphs, logger.warning),
        ada_p=torch.tensor(config.ada.p, dtype=torch.float64, device=world.device),
        initial=initial,
    )
    _check_warmup(state)
    return state


def _check_warmup(state: GanTrainState) -> None:
    """Check that the learning rates reach their peaks.

    Raises:
        UserError: they do not.
    """
    steps = state.config.warmup_steps
    if steps is not None and steps > state.total_steps:
        raise UserError(f"--warmup-steps {steps} is longer than the training ({state.total_steps} steps)")


def _can_compile(device: torch.device) -> bool:
    """Return whether torch.compile is right for the generator on a device; log a warning if it is not.

    PyTorch 2.13 on a CPU returns zero gradients for all layers before the first interpolation.
    """
    if device.type == "cpu":
        logger.warning("--compile: PyTorch computes wrong gradients for the generator on a CPU; not compiled")
    return device.type != "cpu"


def reset(state: GanTrainState) -> None:
    """Set a state to that before the first step, in place: CUDA graphs refer to its tensors."""
    model = state.generator
    statistics = model.mel_mean_M.cpu(), model.mel_std_M.cpu()
    networks = create_networks(state.config, state.dataset, *statistics, state.initial)
    state.generator.load_state_dict(networks[0].state_dict())
    state.ema.model.load_state_dict(networks[0].state_dict())
    state.discriminator.load_state_dict(networks[1].state_dict())
    for optimizer in state.optimizers.values():
        reset_optimizer(optimizer)
    state.ada_p.fill_(state.config.ada.p)
    state.step = state.epoch = state.ema.step = state.rollbacks = state.best_epoch = 0
    state.lr_scale, state.best_score, state.history = 1.0, None, []


def publish(
    state: GanTrainState, checkpoints: Checkpoints, log: RunLog, improved: bool, owner: str | None
) -> None:
    """Write checkpoint, generator if it improved, and log, as `publish_epoch`."""
    publish_epoch(
        RunFolder(state.config.run),
        owner,
        partial(write_checkpoint, state, checkpoints),
        partial(save_current_model, state) if improved else None,
        partial(log.epoch, state.history),
    )


def save_current_model(state: GanTrainState) -> None:
    """Write the EMA generator of the last epoch, with the metadata that generation needs."""
    metadata = GeneratorMetadata(
        model=state.config.gan,
        features=state.dataset.features,
        class_names=state.dataset.class_names,
        training={**state.history[-1], "config": state.config.identity()},
    )
    save_model(state.config.run, state.ema.model, metadata)


def forget_best_score(state: GanTrainState) -> None:
    """Delete the best score, so that the next epoch with one is the best."""
    state.best_score = None


def write_checkpoint(
    state: GanTrainState,
    checkpoints: Checkpoints,
    position: PositionTensors | None = None,
) -> None:
    """Write the state; within an epoch with the tensors and values of `position_tensors`.

    Raises:
        UserError: it cannot be written.
    """
    tensors = {
        "generator": state.generator.state_dict(),
        "discriminator": state.discriminator.state_dict(),
        "ema": state.ema.model.state_dict(),
        "generator_optimizer": optimizer_tensors(state.generator, state.optimizers["generator"]),
        "discriminator_optimizer": optimizer_tensors(state.discriminator, state.optimizers["discriminator"]),
    }
    values = {name: getattr(state, name) for name in SCALARS}
    values |= {
        "ada_p": float(state.ada_p),
        "ema_step": state.ema.step,
        "history": state.history,
        "pending_collapse": state.pending_collapse,
    }
    with report_os_errors("writing to", state.config.run):
        checkpoints.write(state.epoch, tensors, values, position)


def restore(state: GanTrainState, tensors: dict[str, dict[str, Tensor]], values: dict[str, Any]) -> None:
    """Load a checkpoint, as `Checkpoints.read` returns it, into the state."""
    state.generator.load_state_dict(tensors["generator"])
    state.discriminator.load_state_dict(tensors["discriminator"])
    state.ema.model.load_state_dict(tensors["ema"])
    load_optimizer(state.generator, state.optimizers["generator"], tensors["generator_optimizer"])
    load_optimizer(state.discriminator, state.optimizers["discriminator"], tensors["discriminator_optimizer"])
    values = {"best_score": values.get("best_frechet"), **values}  # its name in earlier versions
    for name in SCALARS:
        setattr(state, name, values[name])
    state.ada_p.fill_(values["ada_p"])
    state.ema.step, state.history = values["ema_step"], values["history"]
    state.pending_collapse = values.get("pending_collapse", "")
    state.position = read_position(state.world, tensors, values)
    if state.position is None:
        # The checkpoint of another trial (PBT) may have other steps in an epoch, and rates follow the epochs.
        state.step = state.ema.step = state.epoch * state.steps_per_epoch
