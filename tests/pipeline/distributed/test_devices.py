"""GPUs are used where there are enough; choices and contradictions are explained in a line."""

from __future__ import annotations

import logging

import pytest
import torch

from models.config import ConfigError
from pipeline.distributed import devices
from pipeline.distributed.devices import (
    DeviceConfig,
    collective_backend,
    process_device,
    resolve_gpus,
    worker_device,
)
from pipeline.distributed.resource_config import ResourceConfig
from pipeline.distributed.resources import NodeResources
from pipeline.io.errors import UserError
from tune.config import SearchConfig

ONE_GPU, THREE_GPUS = [NodeResources(16, 1)], [NodeResources(4, 2), NodeResources(4, 1)]
WITHOUT_GPUS = [NodeResources(16, 0)]


@pytest.fixture(autouse=True)
def forget_logged_choices() -> None:
    devices._log.cache_clear()
    devices._version_without_cuda.cache_clear()


@pytest.fixture
def cuda_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch be a build with CUDA: to choose devices no GPU is needed."""
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)


@pytest.mark.usefixtures("cuda_build")
@pytest.mark.parametrize(
    ("settings", "workers", "nodes", "gpus", "message"),
    [
        ({}, 1, WITHOUT_GPUS, 0, None),
        ({}, 1, ONE_GPU, 1, "using 1 GPU per worker (--device cpu for CPUs)"),
        ({}, 3, THREE_GPUS, 1, "using 1 GPU per worker (--device cpu for CPUs)"),
        ({}, 4, ONE_GPU, 0, "4 workers, but 1 GPU: using CPUs; --gpus-per-worker 0.25 shares it"),
        ({}, 8, THREE_GPUS, 0, "8 workers, but 3 GPUs: using CPUs; --gpus-per-worker 0.333 shares them"),
        ({"device": "cpu"}, 1, ONE_GPU, 0, None),
        ({"device": "cuda"}, 4, ONE_GPU, 1, None),
        ({"gpus_per_worker": 0.25}, 4, ONE_GPU, 0.25, None),
        ({"gpus_per_worker": 0}, 1, ONE_GPU, 0, None),
    ],
)
def test_resolve_gpus_explains_automatic_choice(
    settings: dict[str, object],
    workers: int,
    nodes: list[NodeResources],
    gpus: float,
    message: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, logger="melray"):
        for _ in range(2):
            assert resolve_gpus(DeviceConfig(**settings), workers, nodes, cpus=1) == gpus
    assert caplog.messages == ([] if message is None else [message])


@pytest.mark.skipif(torch.backends.cuda.is_built(), reason="torch is built with CUDA")
def test_gpus_are_unused_by_torch_without_cuda(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="melray"):
        assert resolve_gpus(DeviceConfig(), 1, ONE_GPU, cpus=1) == 0
    text = f"1 GPU in the cluster, but torch {torch.__version__} is built without CUDA: using CPUs"
    assert caplog.messages == [text]


@pytest.mark.usefixtures("cuda_build")
def test_gpus_on_nodes_with_few_cpus_are_unused(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="melray"):
        assert resolve_gpus(DeviceConfig(), 2, [NodeResources(1, 2), NodeResources(9, 0)], cpus=1) == 0
    assert caplog.messages == ["2 workers with 1 CPU and 1 GPU do not fit on the nodes: using CPUs"]


@pytest.mark.usefixtures("cuda_build")
def test_share_of_trials_is_shown_per_trial(caplog: pytest.LogCaptureFixture) -> None:
    config = SearchConfig(shards="shards", run="run", workers_per_trial=2)
    with caplog.at_level(logging.INFO, logger="melray"):
        assert config.on_nodes(ONE_GPU).gpus_per_trial == 0
    assert caplog.messages == ["2 workers, but 1 GPU: using CPUs; --gpus-per-trial 1 shares it"]
    assert config.on_nodes(THREE_GPUS).min_resources.gpus == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gpus_per_worker": 1.5}, "'gpus_per_worker' = 1.5: input should be less than or equal to 1"),
        ({"gpus_per_worker": -1}, "'gpus_per_worker' = -1: input should be greater than or equal to 0"),
        (
            {"device": "cpu", "gpus_per_worker": 1},
            "--device cpu and --gpus-per-worker 1: drop one of them",
        ),
        (
            {"device": "cuda", "gpus_per_worker": 0},
            "--device cuda and --gpus-per-worker 0: drop one of them",
        ),
        ({"device": "gpu"}, "'device' = 'gpu': input should be 'auto', 'cpu' or 'cuda'"),
    ],
)
def test_contradicting_devices_are_errors(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        ResourceConfig(**settings)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gpus_per_trial": 2}, "--gpus-per-trial 2: a worker uses at most one GPU"),
        ({"gpus_per_trial": 1, "device": "cpu"}, "--device cpu and --gpus-per-trial 1: drop one"),
    ],
)
def test_impossible_gpus_of_trials_are_errors(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SearchConfig(shards="shards", run="run", **settings)


@pytest.mark.parametrize(("gpus", "backend"), [(0, "gloo"), (0.5, "gloo"), (1, "cpu:gloo,cuda:nccl")])
def test_nccl_needs_whole_gpus(gpus: float, backend: str) -> None:
    assert collective_backend(gpus) == backend


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_missing_gpu_is_an_error() -> None:
    assert process_device("auto") == process_device("cpu") == worker_device(0) == torch.device("cpu")
    with pytest.raises(UserError, match=r"--device cuda: torch .*: drop it to use the CPU"):
        process_device("cuda")
    with pytest.raises(UserError, match=r"has 0.5 GPU of Ray, but torch .*: use --device cpu"):
        worker_device(0.5)


def test_unknown_device_is_refused() -> None:
    with pytest.raises(UserError, match="device 'tpu': unknown; choose auto, cpu, cuda"):
        process_device("tpu")  # type: ignore[arg-type]
