"""Trainings of one worker each, as plain Ray tasks: no process group is needed, so none of what Ray Train starts for one.

A task begins in the second in which a process is free, where Ray Train takes ten. A lost one is sent again, and goes on from
the last checkpoint in its run's folder, as it would by Ray Train. Ray's own way to try again would do so without end where the
memory is too small.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from pipeline.io.errors import UserError
from pipeline.lost import explain_lost
from pipeline.run_folder import RunFolder
from pipeline.stall import STEP_SECONDS
from pipeline.training import Loop, World
from pipeline.training_config import ResourceConfig
from pipeline.watch import Watch


@dataclass(frozen=True)
class Task:
    """A training loop with its settings and the folder of its run."""

    loop: Loop
    config: Any
    run: RunFolder


def side_by_side(tasks: dict[str, Task], resources: ResourceConfig, cpus: int) -> dict[str, dict[str, Any]]:
    """Runs each to its end, as many together as the cluster has room for; returns what the loops returned.

    Args:
        tasks: by the name that stands before the lines of its progress; an only one may be named "".
        resources: of each.
        cpus: of each.

    Raises:
        UserError: the first of theirs, or too many lost workers.
    """
    import ray

    remote = ray.remote(num_cpus=cpus, num_gpus=resources.gpus_per_worker, max_retries=0)(_run).options(name="training")
    failures = dict.fromkeys(tasks, 0)
    results: dict[str, dict[str, Any]] = {}

    def send(name: str) -> Any:
        return remote.remote(tasks[name].loop, tasks[name].config, cpus, resources.gpus_per_worker > 0)

    with Watch({name: task.run for name, task in tasks.items()}):
        waiting = {send(name): name for name in tasks}
        while waiting:
            (done,), _ = ray.wait(list(waiting))
            name = waiting.pop(done)
            try:
                result, fault = ray.get(done)
            except ray.exceptions.RayError as error:
                failures[name] += 1
                if isinstance(error, ray.exceptions.RayTaskError) or failures[name] > resources.max_failures:
                    raise explain_lost(error, resources.max_failures) from error
                print(f"{name}{': ' if name else ''}a worker was lost ({type(error).__name__}); going on from the last epoch", flush=True)
                waiting[send(name)] = name
                continue
            if fault is not None:
                raise UserError(fault)
            results[name] = result
    return results


def _run(loop: Loop, config: Any, cpus: int, gpu: bool) -> tuple[dict[str, Any] | None, str | None]:
    """Runs on a worker; returns the loop's result, or the user's fault: Ray would try an exception again."""
    torch.set_num_threads(cpus)
    # The only one that Ray lets this process see.
    device = torch.device("cuda", 0) if gpu else torch.device("cpu")
    if gpu:
        torch.cuda.set_device(device)
    try:
        return loop(config, World(0, 1, device, STEP_SECONDS)), None
    except UserError as error:
        return None, str(error)
