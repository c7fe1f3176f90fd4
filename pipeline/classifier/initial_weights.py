"""Fine-tuning: training that starts from the weights of another classifier, wholly or in part frozen."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.backbones.timm_models import ModelError, TimmBackbone
from models.classifier import Classifier
from pipeline.audio.features import FeatureConfig
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.data.clips import shown_list
from pipeline.data.dataset import ShardDataset
from pipeline.data.initial_run import WEIGHT_SUFFIXES
from pipeline.io.errors import UserError, explain_os_error
from pipeline.io.storage import local_file
from pipeline.io.text import plural
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.model_file import MODEL_NAME
from pipeline.training.optim import decay_groups, initial_learning_rate
from pipeline.training.run_folder import RunFolder
from pipeline.training.tensor_file import load_tensors
from pipeline.training.world import World

# Statistics of the spectrograms are those of the new dataset.
_STATISTICS = ("mel_mean_M", "mel_std_M", "pcen.mean_M", "pcen.std_M", "texture.mean_K", "texture.std_K")
# These weights, and the step count of a norm, fit networks that have nothing else in common.
_FIT_ANY = ("modulation.", "texture.")


def initialize(model: Classifier, config: TrainClassifierConfig, dataset: ShardDataset, world: World) -> str:
    """Load the weights that `init_from` names into a network, and freeze its first stages; a collective.

    Those of a resumed run are in its checkpoint: it needs neither `init_from` nor weights of timm any more.

    Returns:
        A line about each stage, for the log of the run; empty without `init_from`.

    Raises:
        UserError: a missing or damaged file, or one of which no weight fits; weights of timm that cannot be
            downloaded; more stages to freeze than the network has.
    """
    if config.freeze >= len(model.stages):
        raise UserError(
            f"--freeze {config.freeze}: the network has {len(model.stages)} stages, of which the last one is "
            f"trained: {', '.join(model.stages)}"
        )
    text = ""
    if (config.init_from is not None or config.model.pretrained) and not _is_resumed(config, world):
        if config.init_from is not None:
            text, loaded = _load(model, config.init_from, dataset)
        elif model.backbone is not None:
            text, loaded = _load_timm(model, model.backbone, None)
        _check_frozen(model, config.freeze, loaded)
    model.freeze(config.freeze)
    return text


def _check_frozen(model: Classifier, freeze: int, loaded: Collection[str]) -> None:
    """Check that the stages that are not trained have been loaded.

    Raises:
        UserError: some of their weights would stay random.
    """
    trained = {name for name, _ in model.named_parameters()} - model.output_names
    for number, (stage, names) in enumerate(list(model.stages.items())[:freeze]):
        if missing := sorted(trained.intersection(names).difference(loaded)):
            raise UserError(
                f"--freeze {freeze}: weights of stage {stage} would stay random, as none were loaded for "
                f"{shown_list(missing, 3)}; lower it to {number}, or choose --model.* as in --init-from"
            )


def _is_resumed(config: TrainClassifierConfig, world: World) -> bool:
    return world.run_on_main_rank(partial(Checkpoints(config.run).exist, within_epochs=True))


def _load(model: Classifier, source: Path, dataset: ShardDataset) -> tuple[str, Collection[str]]:
    """Load the weights that fit; return a line about each stage, and the names of the weights."""
    path = source if source.suffix in WEIGHT_SUFFIXES else source / MODEL_NAME
    if not path.is_file():
        RunFolder(source).check_single_model("--init-from")
    if model.backbone is not None and path.suffix != ".safetensors":
        return _load_timm(model, model.backbone, path)
    tensors, metadata = load_tensors(path)
    if model.backbone is not None and not metadata:
        return _load_timm(model, model.backbone, path)
    if metadata.get("kind", "classifier") != "classifier":
        raise UserError(f"--init-from {source} holds a {metadata['kind']}, not a classifier")
    same_classes = metadata.get("class_names") == list(dataset.class_names)
    kept = set(_STATISTICS) | (set() if same_classes else model.output_names)
    state = model.state_dict()
    fitting = {
        name: value
        for name, value in tensors.items()
        if name in state and name not in kept and value.shape == state[name].shape
    }
    if not any(value.ndim and not name.startswith(_FIT_ANY) for name, value in fitting.items()):
        raise UserError(f"--init-from {source}: none of its {plural(len(tensors), 'weight')} fits --model.*")
    with torch.no_grad():
        for name, value in fitting.items():
            state[name].copy_(value)
    parts = [f"weights of {source}", *_report(model, fitting), *_feature_notes(metadata, dataset.features)]
    return "; ".join(parts), set(fitting)


def _load_timm(model: Classifier, backbone: TimmBackbone, path: Path | None) -> tuple[str, Collection[str]]:
    """Load weights by timm, of a file or its own; return as `_load`."""
    try:
        if path is None:
            names = backbone.load_pretrained()
        else:
            with local_file(path) as copy:
                names = backbone.load_pretrained(copy)
    except ModelError as error:
        raise UserError(f"{'--model.pretrained' if path is None else '--init-from'}: {error}") from None
    except OSError as error:
        raise UserError(explain_os_error(error, f"reading {path}")) from None
    loaded = [f"backbone.{name}" for name in names]
    return "; ".join([f"weights of {path or f'timm:{backbone.name}'}", *_report(model, loaded)]), loaded


def _report(model: Classifier, loaded: Collection[str]) -> list[str]:
    """Return for each stage whether its weights were loaded."""
    complete, new = [], []
    for name, stage in model.stages.items():
        names, found = set(stage), set(loaded)
        if missing := sorted(names - found):
            new.append(f"{name} ({shown_list(missing, 3)})" if names & found else name)
        if names & found:
            complete.append(name)
    return [f"loaded: {', '.join(complete)}", *([f"new: {', '.join(new)}"] if new else [])]


def _feature_notes(metadata: dict[str, Any], features: FeatureConfig) -> list[str]:
    """Return a note if the network was trained on other spectrograms."""
    theirs, ours = metadata.get("features"), features.to_dict()
    if not isinstance(theirs, dict) or theirs == ours:
        return []
    mel = theirs.get("mel") or {}
    changed = [name for name, value in ours["mel"].items() if mel.get(name) != value]
    return [f"trained on other spectrograms ({', '.join(changed) or 'length, trimming'})"]


def parameter_groups(
    model: Classifier, config: TrainClassifierConfig, device: torch.device
) -> list[dict[str, Any]]:
    """Return parameter groups for AdamW, those of the first stages with lower learning rates.

    The factor of a stage is that of the next one times `stage_lr_factor` (Howard and Ruder 2018, ULMFiT).
    Frozen weights are in no group.
    """
    parameters = dict(model.named_parameters())
    stages = [
        nn.ParameterList(parameters[name] for name in names if name in parameters)
        for names in reversed(model.stages.values())
    ]
    parts = [model] if config.stage_lr_factor == 1.0 else stages
    return [
        # A learning rate of its own: on a GPU it is a tensor, which is changed in place.
        group
        | {
            "lr": initial_learning_rate(config.learning_rate, device),
            "lr_factor": config.stage_lr_factor**depth,
        }
        for depth, part in enumerate(parts)
        for group in decay_groups(part, config.weight_decay)
        if group["params"]
    ]
