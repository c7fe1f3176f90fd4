"""Device of the GPU tests, training on it, commands, and comparison of tensors."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from pipeline.training.checkpoint import Checkpoints
from pipeline.training.run_folder import RunFolder
from pipeline.training.world import World
from tests.helpers.processes import run_command

DEVICE = torch.device(os.environ.get("MELRAY_GPU_DEVICE", "cuda"), 0)
CPU = torch.device("cpu")
# Flags of a worker with a whole GPU, or with a part of one.
ONE_GPU = ["--gpus-per-worker", "1"] if DEVICE.type == "cuda" else ["--device", "cpu"]
HALF_GPU = ["--gpus-per-worker", "0.5"] if DEVICE.type == "cuda" else ["--device", "cpu"]


def melray(*arguments: object, cpus: int = 4, timeout: float = 110) -> subprocess.CompletedProcess[str]:
    """Run `melray …` on a few CPUs; fail with the last lines of its output if it does."""
    result = run_command(*arguments, "--cpus", cpus, timeout=timeout)
    output = " | ".join((result.stdout + result.stderr).strip().splitlines()[-4:])
    assert result.returncode == 0, f"melray {arguments[0]}: exit code {result.returncode}: {output[-350:]}"
    return result


def train(loop: ModuleType, config: Any, device: torch.device, size: int = 1) -> list[dict[str, Any]]:
    """Train in this process by `loop.train_loop`; return the metrics of all epochs."""
    config.run.mkdir(parents=True, exist_ok=True)
    loop.train_loop(config, World(0, size, device))
    return RunFolder(config.run).read_history()


def checkpoint_tensors(run: Path) -> dict[str, Tensor]:
    """Return all tensors of the last checkpoint of a run, by `<group>/<name>`."""
    checkpoint = Checkpoints(run).read()
    assert checkpoint is not None
    groups: Mapping[str, Mapping[str, Tensor]] = checkpoint[0]
    return {f"{group}/{name}": value for group, tensors in groups.items() for name, value in tensors.items()}


def relative_difference(actual: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """Return the norm of the difference of two sets of tensors, relative to that of the expected ones."""
    assert actual.keys() == expected.keys()
    pairs = [
        (actual[name].detach().cpu().double(), expected[name].detach().cpu().double()) for name in expected
    ]
    difference = sum(float((a - b).square().sum()) for a, b in pairs)
    return float((difference / sum(float(b.square().sum()) for _, b in pairs)) ** 0.5)


def select(tensors: Mapping[str, Tensor], prefix: str, suffix: str = "") -> dict[str, Tensor]:
    """Return the tensors whose names start and end as given."""
    return {
        name: value
        for name, value in tensors.items()
        if name.startswith(prefix) and name.endswith(suffix) and value.is_floating_point()
    }
