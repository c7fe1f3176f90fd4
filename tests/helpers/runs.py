"""What tests of trainings ask of a run."""

from __future__ import annotations

from pathlib import Path

import torch

from pipeline.training.checkpoint import load_tensors
from pipeline.training.world import World

# The only worker.
ALONE = World(0, 1, torch.device("cpu"))


def weights(run: Path) -> dict[str, torch.Tensor]:
    """Of the model that a run keeps."""
    return load_tensors(run / "model.safetensors")[0]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether all tensors are equal bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
