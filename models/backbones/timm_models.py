"""Networks of timm (Wightman 2019, PyTorch Image Models) as `--model.arch timm:NAME`; an optional dependency.

A spectrogram is an image with one channel, or two. Where weights of color images are loaded, timm sums those
of the first layer over the colors, or takes two of them. The network pools its features itself, as it was
trained to.

Shape suffixes: B batch, K channels, M mel bands, T frames.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.config import ConfigError

# Networks halve both axes up to five times.
MIN_SIZE = 32


class ModelError(ConfigError):
    """A network that cannot be built, or weights that it cannot have; the message is one line."""


class TimmBackbone(nn.Module):
    """A network of timm without its classification layer, with random weights."""

    model: Any

    def __init__(self, name: str, channels: int = 1):
        """Build the network `name`, as timm lists it, such as `resnet18` or `resnet18.a1_in1k`.

        Args:
            name: name of the network.
            channels: channels of its input.

        Raises:
            ModelError: timm is missing, or does not know the name.
        """
        super().__init__()
        self.name = name
        self.channels = channels
        self.model = _create(name, channels)
        # Most networks of attention have a learned vector for each position.
        fixed = self.model.pretrained_cfg.get("fixed_input_size")
        self._fixed_size = tuple(self.model.pretrained_cfg["input_size"][1:]) if fixed else None

    @property
    def num_features(self) -> int:
        """Number of features of a clip."""
        return int(getattr(self.model, "head_hidden_size", None) or self.model.num_features)

    def forward(self, x_BKMT: Tensor) -> Tensor:
        """Return pooled features `[shape=(B, K)]` of normalized spectrograms."""
        size = self._fixed_size or tuple(max(axis, MIN_SIZE) for axis in x_BKMT.shape[2:])
        if size != tuple(x_BKMT.shape[2:]):
            x_BKMT = F.interpolate(x_BKMT, size, mode="bilinear", align_corners=False)
        features_BK: Tensor = self.model(x_BKMT)
        return features_BK

    def stages(self) -> list[list[str]]:
        """Return the names of the weights and statistics of each stage that timm defines, from the input."""
        names = [f"model.{name}" for name in self.model.state_dict()]
        if not hasattr(self.model, "group_matcher"):
            return [names]
        from timm.models import group_parameters

        numbers = {
            f"model.{name}": number
            for name, number in group_parameters(
                self.model, self.model.group_matcher(coarse=True), reverse=True
            ).items()
        }
        # Statistics of a norm belong to the stage of its weights.
        of_module = {name.rpartition(".")[0]: number for name, number in numbers.items()}
        last = max(numbers.values())
        stages: dict[int, list[str]] = {}
        for name in names:
            number = numbers.get(name, of_module.get(name.rpartition(".")[0], last))
            stages.setdefault(number, []).append(name)
        return [stages[number] for number in sorted(stages)]

    def load_pretrained(self, path: Path | None = None) -> list[str]:
        """Load the weights that timm has for the network, or those of a file, which timm converts if needed.

        Returns:
            Names of the weights that were loaded, without those that the file does not have.

        Raises:
            ModelError: the weights cannot be downloaded or read, there are none, or none fits.
        """
        if path is not None:
            source, overlay = str(path), {"file": str(path)}
        else:
            source, overlay = "timm", None
            config = self.model.pretrained_cfg
            if not any(config.get(key) for key in ("hf_hub_id", "url", "file")):
                raise ModelError(f"timm:{self.name}: timm has no pretrained weights for it")
        try:
            random = _create_seeded(self.name, self.channels)
            state = _create_seeded(self.name, self.channels, pretrained=True, pretrained_cfg_overlay=overlay)
        except Exception as error:  # of connections, files and formats, of many kinds
            action = f"cannot be loaded from {source}" if path else "cannot be downloaded"
            hint = "" if path else "; download them elsewhere, and give the file by --init-from"
            raise ModelError(f"timm:{self.name}: weights {action} ({_first_line(error)}){hint}") from None
        # timm leaves out what does not fit: such weights are as random as in a network of the same seed.
        new = {name for name, value in state.items() if value.ndim > 1 and torch.equal(value, random[name])}
        if all(name in new for name, value in state.items() if value.ndim > 1):
            raise ModelError(f"timm:{self.name}: none of the weights of {source} fits")
        self.model.load_state_dict(state)
        return [f"model.{name}" for name in state if name not in new]


def check_timm(name: str) -> None:
    """Check that timm can build a network.

    Raises:
        ModelError: timm is missing, or does not know the name.
    """
    timm = _import_timm(name)
    if not timm.is_model(name):
        similar = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.5)
        hint = f"; similar names: {', '.join(similar)}" if similar else ""
        raise ModelError(f"--model.arch timm:{name}: timm {timm.__version__} has no such network{hint}")


def _create(name: str, channels: int, **options: Any) -> nn.Module:
    check_timm(name)
    try:
        model: nn.Module = _import_timm(name).create_model(name, in_chans=channels, num_classes=0, **options)
        return model
    except RuntimeError as error:
        if options:
            raise
        raise ModelError(f"--model.arch timm:{name}: {_first_line(error)}") from None


def _create_seeded(name: str, channels: int, **options: Any) -> dict[str, Tensor]:
    """Return the weights of a network whose random ones are always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _create(name, channels, **options).state_dict()


def _import_timm(name: str) -> ModuleType:
    try:
        import timm
    except ImportError as error:
        raise ModelError(
            f"--model.arch timm:{name} needs timm ({_first_line(error)}): pip install 'melray[timm]'"
        ) from None
    except Exception as error:  # of a torchvision that was built for another torch
        raise ModelError(
            f"--model.arch timm:{name}: timm cannot be imported ({_first_line(error)}): install the "
            "torchvision that belongs to the installed torch"
        ) from None
    return timm


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
