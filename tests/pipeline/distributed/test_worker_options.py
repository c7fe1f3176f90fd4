"""Requirements of workers beyond CPUs and GPUs: their settings, and the nodes that meet them."""

from __future__ import annotations

import pytest

from models.config import ConfigError
from pipeline.distributed.resource_config import ResourceConfig
from pipeline.distributed.resources import NodeResources, ResourceRequest, describe_shortage, max_workers
from pipeline.distributed.worker_options import GIB, WorkerOptions

NODE = NodeResources(
    16,
    2,
    {"memory": 64.0 * GIB, "disk": 3.0, "accelerator_type:H100": 1.0},
    {"market": "spot", "zone": "b"},
)


def settings(**values: object) -> WorkerOptions:
    return ResourceConfig(**values).worker_options  # type: ignore[arg-type]


def test_settings_become_options_of_ray() -> None:
    options = settings(
        memory_per_worker=1.5,
        resources=("disk=0.5",),
        accelerator_type="H100",
        label_selector=("zone=in(a,b)",),
    )
    assert options.remote_options == {
        "memory": 1.5 * GIB,
        "resources": {"disk": 0.5},
        "accelerator_type": "H100",
        "label_selector": {"zone": "in(a,b)"},
    }
    bundle = ResourceRequest(2, 4, 1, options=options).bundle
    assert bundle == {"CPU": 4, "GPU": 1, "memory": 1.5 * GIB, "disk": 0.5, "accelerator_type:H100": 0.001}
    assert settings().remote_options == {} and settings().amounts == {}


@pytest.mark.parametrize(
    ("values", "workers"),
    [
        ({}, 16),
        ({"memory_per_worker": 20}, 3),
        ({"resources": ("disk=2",)}, 1),
        ({"resources": ("tape=1",)}, 0),
        ({"accelerator_type": "H100"}, 16),
        ({"accelerator_type": "A100"}, 0),
        ({"label_selector": ("market=spot", "zone=!in(c, d)")}, 16),
        ({"label_selector": ("market=!spot",)}, 0),
        ({"label_selector": ("rack=1",)}, 0),
        ({"label_selector": ("rack=!1",)}, 16),
        ({"label_selector": ("zone=in(a, b)",)}, 16),
    ],
)
def test_workers_fit_on_nodes_that_meet_their_options(values: dict[str, object], workers: int) -> None:
    assert max_workers(ResourceRequest(1, 1, options=settings(**values)), [NODE]) == workers


def test_shortage_names_memory_and_labels() -> None:
    options = settings(memory_per_worker=100, label_selector=("market=spot",))
    text = describe_shortage(ResourceRequest(1, 2, options=options), [NODE], 0, "lower --workers")
    assert text.startswith(
        "needs 1 worker with 2 CPUs and 100 GiB of memory and label market=spot, but only 0"
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"resources": ("disk",)}, "--resources disk: expected NAME=AMOUNT"),
        ({"resources": ("disk=two",)}, "--resources disk=two: two is not a number"),
        ({"resources": ("disk=1.5",)}, "--resources disk=1.5: must be a fraction of 1 or a whole number"),
        ({"resources": ("GPU=1",)}, "--resources GPU=1: not a custom resource"),
        ({"label_selector": ("zone",)}, "--label-selector zone: expected KEY=VALUE"),
        ({"label_selector": ("zone=a", "zone=b")}, "--label-selector zone=b: zone is given twice"),
        ({"memory_per_worker": 0}, "'memory_per_worker' = 0"),
    ],
)
def test_invalid_option_is_a_one_line_error(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        settings(**values)
    assert message in str(error.value) and "\n" not in str(error.value)
