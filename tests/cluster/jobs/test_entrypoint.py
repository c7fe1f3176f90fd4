"""Resources of a command's own process, and the warning about its local paths."""

from __future__ import annotations

import pytest

from cluster.connection.nodes import Node
from cluster.jobs.command import validate_command
from cluster.jobs.entrypoint import EntrypointResources
from cluster.jobs.package import project_root
from cluster.jobs.shared_folders import describe_local_paths
from cluster.jobs.submit import SubmitConfig, choose_resources


def node(cpus: float, gpus: float = 0.0, address: str = "10.0.0.1", alive: bool = True) -> Node:
    total = {"CPU": cpus, "GPU": gpus, "memory": 0.0, "object store": 0.0}
    return Node(address, False, alive, total, None)


def choose(command: str, nodes: list[Node], **flags: object) -> EntrypointResources:
    arguments = validate_command(command.split(), project_root(), set(), False)
    return choose_resources(SubmitConfig(**flags), arguments, nodes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("nodes", "cpus", "gpus"),
    [
        ([node(16)], 4, 0),
        ([node(0), node(2)], 2, 0),
        ([node(16), node(2, 1)], 2, 1),
        ([node(0), node(8, 1, alive=False)], 1, 0),
    ],
)
def test_evaluate_holds_cpus_and_a_gpu(nodes: list[Node], cpus: float, gpus: float) -> None:
    assert choose("evaluate --run /r", nodes) == EntrypointResources(cpus, gpus, {}, {})


def test_device_of_evaluate_decides_about_its_gpu() -> None:
    assert choose("evaluate --run /r --device cpu", [node(2, 1)]).gpus == 0
    assert choose("evaluate --run /r --device cuda", [node(2)]).gpus == 1


def test_commands_that_only_plan_hold_nothing() -> None:
    assert choose("extract --data /d --out /o", [node(16, 1)]).request == {}


def test_flags_choose_the_resources_of_any_command() -> None:
    flags = {
        "entrypoint_num_cpus": 2,
        "entrypoint_resources": ("disk=1",),
        "entrypoint_label_selector": ("market=!spot",),
    }
    assert choose("doctor", [node(16)], **flags).request == {
        "entrypoint_num_cpus": 2,
        "entrypoint_resources": {"disk": 1.0},
        "entrypoint_label_selector": {"market": "!spot"},
    }
    assert (
        choose("evaluate --run /r", [node(16, 1)], entrypoint_num_cpus=0, entrypoint_num_gpus=0).request == {}
    )


def test_local_paths_are_named_on_several_hosts() -> None:
    command = "train-classifier --shards s3://b/shards --run /home/me/run --extra-shards /a s3://b/x /b"
    paths = validate_command(command.split(), project_root(), set(), False).local_paths
    two_hosts = [node(1), node(1, address="10.0.0.2"), node(1, address="10.0.0.3", alive=False)]
    line = describe_local_paths(paths, two_hosts)
    assert line.startswith("--run /home/me/run, --extra-shards /a /b: must be the same on all 2 nodes")
    assert describe_local_paths(paths, [node(1), node(1)]) == ""
    assert describe_local_paths({}, two_hosts) == ""
