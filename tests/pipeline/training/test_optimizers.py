"""Optimizers make the steps of PyTorch's, bit for bit."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from pipeline.training import optimizers


def weights_after_steps(kind: type[Optimizer], fused: bool) -> list[torch.Tensor]:
    """Train a small network for four steps, the last two of them from a restored state."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 2))
    settings = {"lr": 1e-2, "betas": (0.5, 0.99), "weight_decay": 0.1, "fused": fused}
    optimizer = kind(network[0].parameters(), **settings)  # type: ignore[call-arg]
    optimizer.add_param_group({"params": list(network[2].parameters()), "weight_decay": 0.0})
    for step in range(4):
        if step == 2:
            optimizer.load_state_dict(optimizer.state_dict())
        optimizer.zero_grad()
        network(torch.randn(3, 5)).square().sum().backward()
        optimizer.step()
    return [*network.state_dict().values(), *(state["exp_avg"] for state in optimizer.state.values())]


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_steps_equal_those_of_pytorch(name: str, fused: bool) -> None:
    values, expected = (weights_after_steps(getattr(m, name), fused) for m in (optimizers, torch.optim))
    assert len(values) == 8
    assert all(torch.equal(value, other) for value, other in zip(values, expected, strict=True))
