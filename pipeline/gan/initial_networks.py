"""Training that starts from both networks of another GAN, for more epochs or for other sounds.

As in transfer learning of GANs (Wang et al. 2018), the discriminator is taken as well: a new one would lead a
trained generator astray.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from models.gan import Discriminator, Generator
from pipeline.audio.features import FeatureConfig, feature_mismatch
from pipeline.data.clips import shown_list
from pipeline.data.dataset import ShardDataset
from pipeline.data.initial_run import WEIGHT_SUFFIXES
from pipeline.data.shard_manifest import open_shards
from pipeline.gan.config import TrainGanConfig
from pipeline.io.errors import UserError
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.model_file import GeneratorMetadata, load_generator_metadata
from pipeline.training.run_folder import RunFolder
from pipeline.training.world import World

_FLAG = "--init-from"
# Statistics of the spectrograms are those of the new dataset.
_STATISTICS = ("mel_mean_M", "mel_std_M")


@dataclass(frozen=True)
class InitialNetworks:
    """Weights of both networks of a GAN after an epoch."""

    source: Path
    """Run folder of the GAN."""
    epoch: int
    class_names: tuple[str, ...]
    features: FeatureConfig
    tensors: dict[str, dict[str, Tensor]]
    """Weights by name, of `generator` and `discriminator`."""


def check_initial_run(config: TrainGanConfig) -> None:
    """Check the run that `init_from` names, before the run is created and its classifier is trained.

    A run with a checkpoint of its own, to which it also rolls back, no longer needs it.

    Raises:
        UserError: it is not the run of a GAN, its checkpoints are gone, or no convolution of a network fits.
    """
    if config.init_from is None or Checkpoints(config.run).exist():
        return
    theirs = _read_metadata(config.init_from)
    ours = open_shards(config.shards)
    with torch.device("meta"):
        for network in (Generator, Discriminator):
            new = network(config.gan, ours.features.shape, len(ours.class_names))
            old = network(theirs.model, theirs.features.shape, len(theirs.class_names))
            _check_convolutions(new, old.state_dict(), config.init_from)


def _read_metadata(source: Path) -> GeneratorMetadata:
    """Return the metadata of the run of a GAN that has checkpoints.

    Raises:
        UserError: it is not, or its checkpoints are gone.
    """
    if source.suffix in WEIGHT_SUFFIXES and not source.is_dir():
        raise UserError(f"{_FLAG} {source}: give the folder of a GAN, whose checkpoints hold both networks")
    RunFolder(source).check_single_model(_FLAG)
    metadata = load_generator_metadata(source, _FLAG)
    if not Checkpoints(source).exist():
        raise UserError(
            f"{_FLAG} {source}: no checkpoint in it, and model.safetensors does not hold the discriminator"
        )
    return metadata


def read_initial_networks(config: TrainGanConfig, world: World) -> InitialNetworks | None:
    """Read the networks that training starts from, the same on all ranks; a collective.

    None if these are random ones, or the run has a checkpoint of its own.

    Raises:
        UserError: as `check_initial_run`, or no intact checkpoint.
    """
    source = config.init_from
    if source is None or world.run_on_main_rank(Checkpoints(config.run).exist):
        return None
    metadata = _read_metadata(source)
    checkpoint = Checkpoints(source).read(world, within_epochs=False)
    if checkpoint is None:
        raise UserError(f"{_FLAG} {source}: not yet trained for an epoch")
    tensors = {kind: checkpoint.tensors[kind] for kind in ("generator", "discriminator")}
    epoch = int(checkpoint.state["epoch"])
    return InitialNetworks(source, epoch, metadata.class_names, metadata.features, tensors)


@torch.no_grad()
def load_initial_networks(
    initial: InitialNetworks, generator: Generator, discriminator: Discriminator, dataset: ShardDataset
) -> None:
    """Load the weights that fit into both networks; those of classes by the names of the classes.

    Args:
        initial: weights to load.
        generator: new generator.
        discriminator: new discriminator.
        dataset: dataset that they are trained on.

    Raises:
        UserError: no convolution of a network fits.
    """
    ours, theirs = list(dataset.class_names), list(initial.class_names)
    shared = [label for label in ours if label in theirs]
    rows, loaded_rows = [ours.index(label) for label in shared], [theirs.index(label) for label in shared]
    for kind, model in (("generator", generator), ("discriminator", discriminator)):
        tensors = initial.tensors[kind]
        _check_convolutions(model, tensors, initial.source)
        new = set(_new_weights(model, tensors))
        for name, value in _weights(model).items():
            if name in new:
                continue
            if _is_of_classes(name):
                value[rows] = tensors[name][loaded_rows].to(value)
            else:
                value.copy_(tensors[name])


def describe_initial_networks(
    initial: InitialNetworks, generator: Generator, discriminator: Discriminator, dataset: ShardDataset
) -> str:
    """Return a line about what `load_initial_networks` loads, for the log of the run."""
    new = [
        f"{kind}.{name}"
        for kind, model in (("generator", generator), ("discriminator", discriminator))
        for name in _new_weights(model, initial.tensors[kind])
    ]
    added = [name for name in dataset.class_names if name not in initial.class_names]
    other = feature_mismatch(initial.features, dataset.features, "--shards has")
    return "; ".join(
        [
            f"networks of {initial.source} after epoch {initial.epoch}",
            *([f"trained on clips with {other}"] if other else []),
            *([f"new weights: {shown_list(new, 4)}"] if new else []),
            *([f"new classes: {shown_list(added, 4)}"] if added else []),
        ]
    )


def _check_convolutions(model: nn.Module, tensors: Mapping[str, Tensor], source: Path) -> None:
    convolutions = {name for name in _weights(model) if name.startswith("levels.")}
    if convolutions <= set(_new_weights(model, tensors)):
        kind = type(model).__name__.lower()
        raise UserError(f"{_FLAG} {source}: no convolution of its {kind} fits --gan.*")


def _new_weights(model: nn.Module, tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the weights of a network to which the tensors of the same names do not fit."""
    return [
        name
        for name, value in _weights(model).items()
        if name not in tensors or _shape(name, tensors[name]) != _shape(name, value)
    ]


def _shape(name: str, value: Tensor) -> torch.Size:
    """Return the shape of a weight, without the number of classes."""
    return value.shape[1:] if _is_of_classes(name) else value.shape


def _is_of_classes(name: str) -> bool:
    """Return whether a weight has a row for each class."""
    return name.startswith("class_")


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in model.state_dict().items() if name not in _STATISTICS}
