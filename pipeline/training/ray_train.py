"""Runs a training loop on several workers by Ray Train, which schedules them, forms the process group, and
restarts all workers when one is lost.

melray writes its own checkpoints: the same code with or without Ray, and no barrier for the training.
"""

from __future__ import annotations

import logging
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.distributed.devices import collective_backend
from pipeline.distributed.failures import is_worker_lost, root_cause, worker_lost_error
from pipeline.distributed.resource_config import ResourceConfig
from pipeline.distributed.worker import COLLECTIVE_TIMEOUT_S
from pipeline.io.errors import UserError
from pipeline.io.storage import remove_tree, storage_arguments
from pipeline.training.node_caches import fill_node_caches
from pipeline.training.progress import TrainingProgress
from pipeline.training.run_folder import RunFolder
from pipeline.training.worker_process import run_ray_train_worker

if TYPE_CHECKING:
    from pipeline.training.world import TrainLoop

# Seconds to wait for resources after a node was lost: until an autoscaler replaces it; in elastic training,
# until Ray Train detects the loss and requests fewer workers.
NODE_WAIT_S, ELASTIC_NODE_WAIT_S = 1200, 30


def fit_with_ray_train(
    loop: TrainLoop, config: Any, resources: ResourceConfig, run: Path, cpus: int
) -> dict[str, Any]:
    """Run a loop to its end; the arguments are those of `fit`, with chosen GPUs and CPUs per worker.

    Raises:
        UserError: an error of the loop, or too many lost workers.
    """
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    logging.getLogger("ray.train").setLevel(logging.ERROR)
    elastic = resources.min_workers is not None
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(
        ELASTIC_NODE_WAIT_S if elastic else NODE_WAIT_S
    )
    gpus, request = resources.gpus_per_worker or 0.0, resources.request(resources.workers, cpus)
    if config.data_placement == "replicated":  # otherwise the workers fill their shares
        fill_node_caches(config.shard_folders, request)
    scratch = run / ".ray"
    trainer = TorchTrainer(
        run_ray_train_worker,  # type: ignore[arg-type]
        train_loop_config={"loop": loop, "config": config, "cpus": cpus, "gpus": gpus},
        scaling_config=ray.train.ScalingConfig(  # type: ignore[call-arg]
            num_workers=(resources.min_workers, resources.workers) if elastic else resources.workers,  # type: ignore[arg-type]
            use_gpu=gpus > 0,
            resources_per_worker=request.bundle,
            label_selector=dict(request.options.labels) or None,
            placement_strategy="SPREAD" if resources.spread else "PACK",
        ),
        run_config=ray.train.RunConfig(
            name=uuid.uuid4().hex[:8],  # melray resumes from its own checkpoints
            **storage_arguments(scratch),
            failure_config=ray.train.FailureConfig(  # type: ignore[call-arg]
                max_failures=resources.max_failures,
                controller_failure_limit=NODE_WAIT_S // ELASTIC_NODE_WAIT_S if elastic else 1,
            ),
            callbacks=[_end_after_error()],
        ),
        torch_config=TorchConfig(backend=collective_backend(gpus), timeout_s=COLLECTIVE_TIMEOUT_S),
    )
    with TrainingProgress({"": RunFolder(run)}):
        try:
            result = trainer.fit().return_value  # type: ignore[attr-defined]
        except SystemExit:
            # Ray Train's own handler of Ctrl-C: it has ended the workers, and would end the process silently.
            raise KeyboardInterrupt from None
        except ray.train.TrainingFailedError as error:
            raise _final_error(error, resources.max_failures) from error
        finally:
            remove_tree(scratch)
    if not isinstance(result, dict):
        raise RuntimeError(f"the training loop returned {result!r}")
    return result


def _final_error(error: Exception, max_failures: int) -> BaseException:
    """Return the error of a run that Ray Train has given up."""
    cause = root_cause(error)
    # Ray Train forms the process group before the workers can check their device.
    if type(cause) is RuntimeError and "have NCCL built in" in str(cause):
        return UserError("the workers have GPUs, but their torch is built without CUDA: use --device cpu")
    return worker_lost_error(error, max_failures)


def _end_after_error() -> Any:
    """Create a callback of Ray Train's controller that ends a run at the first error of a loop.

    Ray Train itself would retry it, as it does after the loss of a worker, and does not wait for the other
    workers, which may be in a collective with the one that failed.
    """
    import ray.train

    class EndAfterError(ray.train.UserCallback):
        def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
            for error in worker_exceptions.values():
                if not is_worker_lost(error):
                    raise error

    return EndAfterError()
