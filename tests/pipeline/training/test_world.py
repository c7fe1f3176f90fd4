"""Process group: every row is used exactly once for any number of workers; errors reach all ranks."""

from __future__ import annotations

from typing import NoReturn

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.data.loader import epoch_batches
from pipeline.io.errors import UserError
from pipeline.training.world import World, exhaust, rank_slice
from tests.helpers.runs import SINGLE_WORKER

CPU = torch.device("cpu")


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

    assert exhaust(epochs()) == {"epochs": 2}
