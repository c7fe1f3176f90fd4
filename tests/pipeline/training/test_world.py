"""Process group: every row is used exactly once for any number of workers; errors reach all ranks.

No GPU is needed to test what workers on GPUs do: tensors of the meta device stand for theirs.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from pipeline.data.loader import epoch_batches
from pipeline.distributed.devices import collective_backend
from pipeline.io.errors import UserError
from pipeline.training.world import World, exhaust, rank_slice
from tests.helpers.runs import SINGLE_WORKER

CPU, META = torch.device("cpu"), torch.device("meta")
ROOT = Path(__file__).parents[3]
# Functions of torch.distributed that transfer tensors.
COLLECTIVES = re.compile(
    r"\b(all_reduce|all_gather\w*|all_to_all\w*|barrier|reduce_scatter\w*|broadcast_object_list|gather_object"
    r"|scatter\w*_object\w*|send_object_list|isend|irecv)\(|\bdist\.(broadcast|reduce|gather|scatter|send|recv)\("
)


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 5])
def test_rank_slices_cover_every_row_once(workers: int):
    for size in [*range(1, 40), 100, 257]:
        for batch_size in (2, 7, 16, 64):
            order = np.random.default_rng(size).permutation(size)
            used = []
            for batch in epoch_batches(order, batch_size):
                slices = [batch[rank_slice(len(batch), World(rank, workers, CPU))] for rank in range(workers)]
                assert max(map(len, slices)) - min(map(len, slices)) <= 1
                assert np.concatenate(slices).tolist() == batch.tolist()
                used += batch.tolist()
            assert used == order.tolist()


def test_single_worker_needs_no_process_group():
    model, values = nn.Linear(2, 2), torch.ones(3)
    model(torch.ones(1, 2)).sum().backward()
    gradient = model.weight.grad.clone()
    assert World.current(CPU) == SINGLE_WORKER
    assert SINGLE_WORKER.wrap(model) is model
    assert torch.equal(SINGLE_WORKER.sum(values), torch.ones(3))
    SINGLE_WORKER.broadcast([values])
    SINGLE_WORKER.average_gradients(model)
    assert torch.equal(model.weight.grad, gradient)
    assert SINGLE_WORKER.run_on_all_ranks(lambda: 7) == 7


def test_run_on_all_ranks_reraises_errors():
    def fail(error: Exception) -> NoReturn:
        raise error

    with pytest.raises(UserError, match=r"^disk full$"):
        SINGLE_WORKER.run_on_all_ranks(lambda: fail(UserError("disk full")))
    with pytest.raises(ZeroDivisionError):
        SINGLE_WORKER.run_on_all_ranks(lambda: fail(ZeroDivisionError()))


def test_exhaust_returns_the_result():
    def epochs():
        yield {"epoch": 1}
        yield {"epoch": 2}
        return {"epochs": 2}

    assert exhaust(epochs(), SINGLE_WORKER) == {"epochs": 2}


@pytest.fixture
def collectives(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the device types of the tensors of collectives, instead of running them."""
    devices: list[str] = []

    def record(tensor: Tensor, *_: Any) -> None:
        devices.append(tensor.device.type)

    for name in ("all_reduce", "broadcast"):
        monkeypatch.setattr(dist, name, record)
    return devices


def test_collectives_get_tensors_of_the_device(collectives: list[str]):
    world = World(0, 2, META)
    model = nn.Linear(2, 2, device=META)
    world.sum(torch.ones(3, device=META))
    world.broadcast(list(model.state_dict().values()))
    assert collectives == ["meta"] * 3


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize(
    "collective", [World.sum, lambda world, tensor: world.broadcast([tensor])], ids=["sum", "broadcast"]
)
def test_cpu_tensor_reaches_no_collective_of_gpus(
    collective: Callable[[World, Tensor], Any], size: int, collectives: list[str]
):
    """Also for a single worker: a mistake shows without a second GPU."""
    with pytest.raises(ValueError, match="a tensor on cpu in a collective of a worker on meta"):
        collective(World(0, size, META), torch.ones(3))
    assert not collectives


def test_only_world_calls_collectives():
    files = [path for package in ("models", "pipeline", "tune") for path in (ROOT / package).rglob("*.py")]
    assert len(files) > 100
    calling = {path.relative_to(ROOT).as_posix() for path in files if COLLECTIVES.search(path.read_text())}
    # Batch norm over all workers sums statistics of its input, on the input's device.
    assert calling == {"pipeline/training/world.py", "models/norm.py"}


def test_objects_are_exchanged_on_cpus():
    """By gloo, also if NCCL is used: through the GPU they would wait for the work on it."""
    config = dist.distributed_c10d.BackendConfig(dist.Backend(collective_backend(1.0)))
    assert config.get_device_backend_map() == {"cpu": "gloo", "cuda": "nccl"}
    assert collective_backend(0.5) == collective_backend(0.0) == "gloo"


def test_process_group_without_cpu_backend_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "get_backend_config", lambda: "cuda:nccl")
    with pytest.raises(ValueError, match="without a backend for CPUs: use cpu:gloo,cuda:nccl"):
        World.current(META)
    monkeypatch.setattr(dist, "get_backend_config", lambda: "cpu:gloo,cuda:nccl")
    assert World.current(META) == World(0, 2, META)


def test_run_on_main_rank_returns_its_result():
    assert SINGLE_WORKER.run_on_main_rank(lambda: 7) == 7
    assert SINGLE_WORKER.gather(3) == [3]

    def fail() -> NoReturn:
        raise UserError("disk full")

    with pytest.raises(UserError, match=r"^disk full$"):
        SINGLE_WORKER.run_on_main_rank(fail)


def test_hanging_main_rank_exits_between_epochs():
    """The other ranks would wait for it for a day."""
    program = """
import time, torch
from pipeline.distributed.worker import heartbeat
from pipeline.training.world import World
world = World(0, 1, torch.device("cpu"), timeout_s=2.0)
def generate_samples():
    for _ in range(15):
        time.sleep(0.2)
        heartbeat()
def hang():
    time.sleep(30)
world.run_on_main_rank(generate_samples)
world.run_on_all_ranks(hang)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=90)
    assert result.returncode == 1 and "in hang" in result.stderr
