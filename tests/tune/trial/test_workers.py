"""Process group of a trial: workers wait for each other far longer than for their start."""

from __future__ import annotations

import time
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tune.trial import workers

START_TIMEOUT_S = 8


def wait_for_busy_rank(rank: int, port: int, results: Any) -> None:
    """Form a process group of two ranks, whose second joins a collective after the limit of the start."""
    workers.START_TIMEOUT = timedelta(seconds=START_TIMEOUT_S)
    spec: Any = SimpleNamespace(gpus=0, workers=2)
    workers._init_process_group(spec, rank, "127.0.0.1", port)
    if rank == 1:
        time.sleep(START_TIMEOUT_S + 2)
    value = torch.ones(1)
    dist.all_reduce(value)
    results.put(float(value))


@pytest.mark.slow
def test_collective_outlives_start_timeout() -> None:
    context = mp.get_context("spawn")
    results = context.Queue()
    arguments = (workers._unused_port(), results)
    ranks = [context.Process(target=wait_for_busy_rank, args=(rank, *arguments)) for rank in (0, 1)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(60)
    assert [results.get(timeout=1), results.get(timeout=1)] == [2.0, 2.0]
