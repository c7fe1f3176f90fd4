"""A Ray cluster with Ray's autoscaler, whose node provider starts nodes as local processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from ray.autoscaler.node_provider import NodeProvider
from ray.autoscaler.tags import (
    NODE_KIND_HEAD,
    STATUS_UP_TO_DATE,
    TAG_RAY_NODE_KIND,
    TAG_RAY_NODE_STATUS,
    TAG_RAY_USER_NODE_TYPE,
)

from cluster.local.start import free_ports
from tests.helpers.processes import kill_process_tree, listens, wait_until

RAY_START = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", "--block"]
WORKER = "worker"
UP_TO_DATE = {TAG_RAY_NODE_STATUS: STATUS_UP_TO_DATE}
HEAD = {TAG_RAY_NODE_KIND: NODE_KIND_HEAD, TAG_RAY_USER_NODE_TYPE: "head", **UP_TO_DATE}


def host(number: int) -> str:
    """Return the address of a node: the autoscaler distinguishes nodes by their addresses."""
    return f"127.0.{number // 250}.{number % 250 + 2}" if sys.platform == "linux" else "127.0.0.1"


class LoopbackNodeProvider(NodeProvider):
    """Node provider that runs `ray start` on loopback; one JSON file per node stores its process and tags."""

    def __init__(self, provider_config: dict[str, Any], cluster_name: str):
        super().__init__(provider_config, cluster_name)
        self._folder = Path(provider_config["folder"])
        self._lock = threading.Lock()

    def _read(self, node_id: str) -> dict[str, Any]:
        return json.loads((self._folder / f"{node_id}.json").read_text())

    def non_terminated_nodes(self, tag_filters: dict[str, str]) -> list[str]:
        with self._lock:
            nodes = {path.stem: self._read(path.stem)["tags"] for path in sorted(self._folder.glob("*.json"))}
        return [node_id for node_id, tags in nodes.items() if tag_filters.items() <= tags.items()]

    def is_running(self, node_id: str) -> bool:
        return not self.is_terminated(node_id)

    def is_terminated(self, node_id: str) -> bool:
        return not (self._folder / f"{node_id}.json").exists()

    def node_tags(self, node_id: str) -> dict[str, str]:
        return self._read(node_id)["tags"]

    def set_node_tags(self, node_id: str, tags: dict[str, str]) -> None:
        with self._lock:
            self._write(node_id, self._read(node_id) | {"tags": self.node_tags(node_id) | tags})

    def _write(self, node_id: str, node: dict[str, Any]) -> None:
        temporary = self._folder / f"{node_id}.tmp"
        temporary.write_text(json.dumps(node))
        temporary.rename(self._folder / f"{node_id}.json")

    def internal_ip(self, node_id: str) -> str:
        return self._read(node_id)["ip"]

    external_ip = internal_ip

    def create_node(self, node_config: dict[str, Any], tags: dict[str, str], count: int) -> None:
        with self._lock:
            for _ in range(count):
                number = 1 + max(int(path.stem) for path in self._folder.glob("*.json"))
                flags = [
                    f"--node-ip-address={host(number)}",
                    f"--dashboard-agent-listen-port={free_ports(1)[0]}",
                    # In a common folder, nodes that start at the same moment may choose the same socket.
                    f"--temp-dir={self._folder / str(number)}",
                    *node_config["flags"],
                ]
                with (self._folder / f"{number}.log").open("wb") as log:
                    process = subprocess.Popen(
                        [*RAY_START, f"--address={self.provider_config['head']}", *flags],
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
                self._write(str(number), {"ip": host(number), "pid": process.pid, "tags": tags | UP_TO_DATE})

    def terminate_node(self, node_id: str) -> None:
        with self._lock:
            kill_process_tree(self._read(node_id)["pid"])
            (self._folder / f"{node_id}.json").unlink()


class AutoscalingCluster:
    """Head node without CPUs, whose autoscaler adds nodes of `cpus` CPUs on demand, up to `max_nodes`.

    The nodes may have GPUs that do not exist.
    """

    def __init__(self, max_nodes: int, min_nodes: int = 0, cpus: int = 1, gpus: int = 0):
        self._folder = Path(tempfile.mkdtemp(prefix="mr", dir="/tmp"))
        port, client, agent = free_ports(3)
        self.address = f"{host(0)}:{port}"
        common = ["--object-store-memory=90000000", "--min-worker-port=0", "--max-worker-port=0"]
        settings = {
            "cluster_name": "autoscaling",
            "max_workers": max_nodes,
            "idle_timeout_minutes": 0.1,
            "upscaling_speed": 10.0,
            "provider": {
                "type": "external",
                "module": "tests.helpers.autoscaling_cluster.LoopbackNodeProvider",
                "folder": str(self._folder),
                "head": self.address,
                "disable_node_updaters": True,
                "disable_launch_config_check": True,
            },
            "auth": {},
            "head_node_type": "head",
            "available_node_types": {
                "head": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
                WORKER: {
                    "resources": {"CPU": cpus, "GPU": gpus},
                    "node_config": {"flags": [f"--num-cpus={cpus}", f"--num-gpus={gpus}", *common]},
                    "min_workers": min_nodes,
                    "max_workers": max_nodes,
                },
            },
        }
        settings |= {
            name: []
            for name in (
                "initialization_commands",
                "setup_commands",
                "head_setup_commands",
                "worker_setup_commands",
            )
        } | {
            "head_start_ray_commands": [],
            "worker_start_ray_commands": [],
            "file_mounts": {},
            "cluster_synced_files": [],
        }
        config = self._folder / "cluster.yaml"
        config.write_text(json.dumps(settings))
        flags = [
            "--head",
            "--num-cpus=0",
            "--num-gpus=0",
            f"--port={port}",
            f"--node-ip-address={host(0)}",
            f"--autoscaling-config={config}",
        ]
        flags += [
            f"--ray-client-server-port={client}",
            f"--dashboard-agent-listen-port={agent}",
            "--include-dashboard=false",
        ]
        flags += [f"--temp-dir={self._folder / 'r'}", *common]
        environment = os.environ | {
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "PYTHONPATH": str(Path(__file__).parents[2]),
            # `ray start` refuses several nodes where sessions of this process use loopback only.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",
        }
        with (self._folder / "head.log").open("wb") as log:
            self._head = subprocess.Popen(
                [*RAY_START, *flags], stdout=log, stderr=log, env=environment, start_new_session=True
            )
        (self._folder / "0.json").write_text(json.dumps({"ip": host(0), "pid": self._head.pid, "tags": HEAD}))
        wait_until(lambda: listens(self.address), 60)

    @property
    def num_nodes(self) -> int:
        """Number of running nodes, without the head."""
        return len(list(self._folder.glob("*.json"))) - 1

    def shut_down(self) -> None:
        """Kill the head first, whose autoscaler would replace the nodes, then all nodes."""
        pids = [
            json.loads(path.read_text())["pid"]
            for path in sorted(self._folder.glob("*.json"), key=lambda path: int(path.stem))
        ]
        for pid in pids:
            kill_process_tree(pid)
        self._head.wait(10)
        shutil.rmtree(self._folder, ignore_errors=True)
