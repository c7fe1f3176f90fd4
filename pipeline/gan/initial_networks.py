"""Training that starts from both networks of another GAN, for more epochs or for other sounds.

As in transfer learning of GANs (Wang et al. 2018), the discriminator is taken as well: a new one would lead a
trained generator astray.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from pipeline.training.model_file import load_generator_metadata
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


def check_initial_run(source: Path | None) -> None:
    """Check that a folder is the run of a GAN that has checkpoints; None is not checked.

    Raises:
        UserError: it is not, or its checkpoints are gone.
    """
    if source is None:
        return
    if source.suffix in WEIGHT_SUFFIXES and not source.is_dir():
        raise UserError(f"{_FLAG} {source}: give the folder of a GAN, whose checkpoints hold both networks")
    RunFolder(source).check_single_model(_FLAG)
    load_generator_metadata(source, _FLAG)
    if not Checkpoints(source).exist():
        raise UserError(
            f"{_FLAG} {source}: no checkpoint in it, and model.safetensors does not hold the discriminator"
        )


def check_initial_widths(config: TrainGanConfig) -> None:
    """Check that convolutions of both networks fit, before the run is created and its classifier is trained.

    Raises:
        UserError: those of one do not.
    """
    if config.init_from is None:
        return
    theirs = load_generator_metadata(config.init_from, _FLAG)
    ours = open_shards(config.shards)
    with torch.device("meta"):
        for network in (Generator, Discriminator):
            new = network(config.gan, ours.features.shape, len(ours.class_names))
            old = network(theirs.model, theirs.features.shape, len(theirs.class_names))
            shapes = {name: value.shape for name, value in _weights(old).items()}
            missing = [name for name, value in _weights(new).items() if value.shape != shapes.get(name)]
            _check_convolutions(new, missing, config.init_from)


def read_initial_networks(source: Path | None, world: World) -> InitialNetworks | None:
    """Read the networks of a GAN after its last epoch, the same on all ranks; None if `source` is.

    Raises:
        UserError: as `check_initial_run`, or no intact checkpoint.
    """
    if source is None:
        return None
    check_initial_run(source)
    checkpoint = Checkpoints(source).read(world, within_epochs=False)
    if checkpoint is None:
        raise UserError(f"{_FLAG} {source}: not yet trained for an epoch")
    metadata = load_generator_metadata(source, _FLAG)
    tensors = {kind: checkpoint.tensors[kind] for kind in ("generator", "discriminator")}
    epoch = int(checkpoint.state["epoch"])
    return InitialNetworks(source, epoch, metadata.class_names, metadata.features, tensors)


def load_initial_networks(
    initial: InitialNetworks, generator: Generator, discriminator: Discriminator, dataset: ShardDataset
) -> str:
    """Load the weights that fit into both networks; those of classes by the names of the classes.

    Args:
        initial: weights to load.
        generator: new generator.
        discriminator: new discriminator.
        dataset: dataset that they are trained on.

    Returns:
        A line about them, for the log of the run.

    Raises:
        UserError: no residual block of a network fits.
    """
    new = []
    for kind, model in (("generator", generator), ("discriminator", discriminator)):
        missing = _load(model, initial.tensors[kind], initial.class_names, dataset.class_names)
        _check_convolutions(model, missing, initial.source)
        new += [f"{kind}.{name}" for name in missing]
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


def _check_convolutions(model: nn.Module, missing: Sequence[str], source: Path) -> None:
    if {name for name in _weights(model) if name.startswith("levels.")} <= set(missing):
        kind = type(model).__name__.lower()
        raise UserError(f"{_FLAG} {source}: no convolution of its {kind} fits --gan.*")


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in model.state_dict().items() if name not in _STATISTICS}


@torch.no_grad()
def _load(
    model: nn.Module, tensors: dict[str, Tensor], theirs: Sequence[str], ours: Sequence[str]
) -> list[str]:
    """Load the weights that fit into a network; return the names of the others."""
    missing = []
    for name, value in _weights(model).items():
        loaded = tensors.get(name)
        if name.startswith("class_") and loaded is not None and loaded.shape[1:] == value.shape[1:]:
            # A row for each class.
            shared = [label for label in ours if label in theirs]
            value[[ours.index(label) for label in shared]] = loaded[
                [theirs.index(label) for label in shared]
            ].to(value)
        elif loaded is not None and loaded.shape == value.shape:
            value.copy_(loaded)
        else:
            missing.append(name)
    return missing
