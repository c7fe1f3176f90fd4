"""Process groups of a few processes, forked from a server that has imported the training loops once."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from pipeline.training.world import World


def run_ranks(function: Callable[..., None], size: int, rendezvous: Path, *arguments: Any) -> None:
    """Call `function(world, *arguments)` in `size` processes, which form a process group on the CPU.

    Args:
        function: a function of a module.
        size: number of processes.
        rendezvous: file that does not exist yet.
        arguments: pickled.

    Raises:
        mp.ProcessRaisedException: an error of the first process that failed.
    """
    # Not forked from this process: after it has trained itself, a child that trains crashes.
    multiprocessing.set_forkserver_preload(["pipeline.classifier.loop", "pipeline.gan.loop"])
    mp.start_processes(
        _run_rank, (size, rendezvous, function, arguments), nprocs=size, start_method="forkserver"
    )


def _run_rank(
    rank: int, size: int, rendezvous: Path, function: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=size)
    function(World.current(torch.device("cpu")), *arguments)
    dist.destroy_process_group()
