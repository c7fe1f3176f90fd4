"""Optimizer: a restored state continues exactly; only matrices decay."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.training.optim import (
    decay_groups,
    load_optimizer,
    optimizer_tensors,
    reset_scaler,
    resolve_precision,
)
from pipeline.training.tensor_file import load_tensors, save_tensors


def small_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 4 * 4, 2)
    ).to(memory_format=torch.channels_last)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    optimizer.zero_grad()
    model(torch.randn(8, 1, 6, 6, generator=torch.Generator().manual_seed(seed))).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize("foreach", [False, True])
def test_restored_optimizer_makes_identical_steps(foreach: bool, tmp_path: Path):
    def adamw(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW(decay_groups(model, 0.1), lr=1e-2, foreach=foreach)

    model = small_net()
    optimizer = adamw(model)
    for seed in range(3):
        step(model, optimizer, seed)
    tensors = optimizer_tensors(model, optimizer)
    assert tensors.keys() == {
        f"{name}/{key}" for name, _ in model.named_parameters() for key in ("step", "exp_avg", "exp_avg_sq")
    }
    save_tensors(tmp_path / "optimizer", tensors)
    restored_model = copy.deepcopy(model)
    restored_optimizer = adamw(restored_model)
    load_optimizer(restored_model, restored_optimizer, load_tensors(tmp_path / "optimizer")[0])
    for name, value in optimizer_tensors(restored_model, restored_optimizer).items():
        assert torch.equal(value, tensors[name]) and value.stride() == tensors[name].stride()
    for seed in range(3, 6):
        step(model, optimizer, seed)
        step(restored_model, restored_optimizer, seed)
        for name, value in model.state_dict().items():
            assert torch.equal(value, restored_model.state_dict()[name])


def test_optimizer_without_steps_has_no_state():
    model = small_net()
    optimizer = torch.optim.AdamW(decay_groups(model, 0.1))
    assert optimizer_tensors(model, optimizer) == {}
    load_optimizer(model, optimizer, {})
    step(model, optimizer, 0)


def test_only_matrices_decay():
    model = small_net()
    decayed, not_decayed = decay_groups(model, 0.1)
    assert (decayed["weight_decay"], not_decayed["weight_decay"]) == (0.1, 0.0)
    assert [tuple(p.shape) for p in decayed["params"]] == [(4, 1, 3, 3), (2, 64)]
    assert len(not_decayed["params"]) == 4  # two biases, and scale and shift of the norm


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", None), ("bf16", torch.bfloat16)])
def test_precision_selects_dtype(precision, dtype):
    cpu = torch.device("cpu")
    assert resolve_precision(precision, cpu) == dtype
    assert resolve_precision("auto", cpu) in (None, torch.bfloat16)


def test_step_after_an_unfinished_one_is_scaled_as_usual():
    model = small_net()
    optimizer, scaler = torch.optim.AdamW(model.parameters()), torch.amp.GradScaler("cpu")
    scaler.scale(model(torch.ones(2, 1, 6, 6)).square().mean()).backward()
    scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match="already been called"):
        scaler.unscale_(optimizer)
    reset_scaler(scaler, optimizer)
    optimizer.zero_grad()
    before = model[4].weight.clone()
    scaler.scale(model(torch.ones(2, 1, 6, 6)).square().mean()).backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    assert not torch.equal(model[4].weight, before)
