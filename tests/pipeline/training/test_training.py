"""Every row once for any number of workers; an optimiser put back goes on as if never stopped."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.data.loader import batch_slices, epoch_batches
from pipeline.io.errors import UserError
from pipeline.training.checkpoint import load_tensors, save_tensors
from pipeline.training.optim import decay_groups, load_optimizer, optimizer_tensors, resolve_precision
from pipeline.training.world import World, rank_slice

CPU = torch.device("cpu")
ALONE = World(0, 1, CPU)


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 5])
def test_every_row_exactly_once_over_all_workers(workers: int):
    for size in [*range(1, 40), 100, 257]:
        for batch_size in (2, 7, 16, 64):
            order = np.random.default_rng(size).permutation(size)
            seen = []
            for batch in epoch_batches(order, batch_size):
                parts = [batch[rank_slice(len(batch), World(rank, workers, CPU))] for rank in range(workers)]
                assert max(map(len, parts)) - min(map(len, parts)) <= 1
                assert np.concatenate(parts).tolist() == batch.tolist()
                seen += batch.tolist()
            assert seen == order.tolist()


@pytest.mark.parametrize(
    ("size", "batch_size", "lengths"),
    [(10, 4, [4, 3, 3]), (64, 64, [64]), (65, 64, [33, 32]), (3, 64, [3]), (128, 64, [64, 64])],
)
def test_batches_are_as_equal_as_can_be(size: int, batch_size: int, lengths: list[int]):
    assert [len(batch) for batch in epoch_batches(np.arange(size), batch_size)] == lengths


@pytest.mark.parametrize(("total", "size"), [(0, 4), (1, 4), (4, 4), (9, 4)])
def test_rounds_cover_everything(total: int, size: int):
    values = list(range(total))
    parts = [values[part] for part in batch_slices(total, size)]
    assert [value for part in parts for value in part] == values
    assert all(0 < len(part) <= size for part in parts)


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
def test_an_optimiser_put_back_makes_the_same_next_steps(foreach: bool, tmp_path):
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
    other = copy.deepcopy(model)
    restored = adamw(other)
    load_optimizer(other, restored, load_tensors(tmp_path / "optimizer")[0])
    for name, value in optimizer_tensors(other, restored).items():
        assert torch.equal(value, tensors[name]) and value.stride() == tensors[name].stride()
    for seed in range(3, 6):
        step(model, optimizer, seed)
        step(other, restored, seed)
        for ours, theirs in zip(model.state_dict().values(), other.state_dict().values(), strict=True):
            assert torch.equal(ours, theirs)


def test_an_optimiser_that_made_no_step_has_no_state():
    model = small_net()
    optimizer = torch.optim.AdamW(decay_groups(model, 0.1))
    assert optimizer_tensors(model, optimizer) == {}
    load_optimizer(model, optimizer, {})
    step(model, optimizer, 0)


def test_only_matrices_decay():
    model = small_net()
    decayed, others = decay_groups(model, 0.1)
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert [tuple(p.shape) for p in decayed["params"]] == [(4, 1, 3, 3), (2, 64)]
    assert len(others["params"]) == 4  # two biases, and scale and shift of the norm


def test_one_worker_needs_no_group():
    model, values = small_net(), torch.ones(3)
    assert World.current(CPU) == ALONE
    assert ALONE.wrap(model) is model
    assert torch.equal(ALONE.sum(values), torch.ones(3))
    ALONE.broadcast([values])
    assert ALONE.run_on_all_ranks(lambda: 7) == 7


def test_faults_of_the_user_are_told_and_others_pass():
    def fail(error: Exception):
        raise error

    with pytest.raises(UserError, match=r"^no room$"):
        ALONE.run_on_all_ranks(lambda: fail(UserError("no room")))
    with pytest.raises(ZeroDivisionError):
        ALONE.run_on_all_ranks(lambda: fail(ZeroDivisionError()))


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", None), ("bf16", torch.bfloat16)])
def test_precision_by_name(precision, dtype):
    assert resolve_precision(precision, CPU) == dtype
    assert resolve_precision("auto", CPU) in (None, torch.bfloat16)
