"""Weights of training runs."""

from __future__ import annotations

from pathlib import Path

import torch

from pipeline.training.tensor_file import load_tensors
from pipeline.training.world import SINGLE_WORKER as SINGLE_WORKER


def load_weights(run: Path) -> dict[str, torch.Tensor]:
    """Load the weights of the model saved by a run."""
    return load_tensors(run / "model.safetensors")[0]


def tensors_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Return whether two state dicts have the same keys and bit-identical tensors."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
