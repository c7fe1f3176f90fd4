"""Folders that another host of the cluster does not see, made by a node with file systems of its own."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.connection.session import session
from cluster.connection.shared_folders import check_shared_folders
from pipeline.extract import ExtractConfig
from pipeline.io.errors import UserError
from tests.helpers.processes import kill_process_tree, wait_until

RAY_START = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", "--block"]
OWN_FILE_SYSTEMS = ["unshare", "--mount", "--uts"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("no_ray_session"),
    pytest.mark.skipif(
        sys.platform != "linux" or subprocess.run([*OWN_FILE_SYSTEMS, "true"], check=False).returncode != 0,
        reason="needs the right to make mount namespaces",
    ),
]


@pytest.fixture
def private_folder(tmp_path: Path) -> Path:
    """Create the folder that the other node has a file system of its own for."""
    folder = tmp_path / "private"
    folder.mkdir()
    return folder


@pytest.fixture
def two_hosts(private_folder: Path, tmp_path: Path) -> Iterator[None]:
    """Join a cluster whose second node is another host by its name and its file systems."""
    import ray
    from ray.cluster_utils import Cluster

    memory = {"object_store_memory": 100 * 2**20}
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, **memory}
    )
    flags = [f"--address={cluster.address}", "--num-cpus=1", "--object-store-memory=100000000"]
    node = (
        f"hostname other-host && mount -t tmpfs none {private_folder} && exec {shlex.join(RAY_START + flags)}"
    )
    with (tmp_path / "node.log").open("wb") as log:
        process = subprocess.Popen(
            [*OWN_FILE_SYSTEMS, "sh", "-c", node],
            stdout=log,
            stderr=log,
            env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0"},
            start_new_session=True,
        )
    try:
        with session(cluster.address):
            wait_until(lambda: sum(node["Alive"] for node in ray.nodes()) == 2, 60)
            yield
    finally:
        kill_process_tree(process.pid)
        cluster.shutdown()


def test_folder_that_a_host_does_not_see_is_an_error(
    two_hosts: None, private_folder: Path, tmp_path: Path
) -> None:
    data = tmp_path / "sounds"
    data.mkdir()
    check_shared_folders(ExtractConfig(data=data, out=tmp_path / "shards"))
    out = private_folder / "shards"
    with pytest.raises(UserError, match=f"--out {out}: not on host other-host; use a folder that all hosts"):
        check_shared_folders(ExtractConfig(data=data, out=out))
    (private_folder / "sounds").mkdir()
    with pytest.raises(UserError, match=r"--data .*: not on host other-host"):
        check_shared_folders(ExtractConfig(data=private_folder / "sounds", out=tmp_path / "shards"))
