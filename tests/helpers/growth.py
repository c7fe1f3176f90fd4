"""Observation of a growing cluster: when each node joins, and when it first works."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

import psutil
import ray

INTERVAL_S = 0.25
_ADDRESS_FLAG = "--node_ip_address="


class GrowthWatcher:
    """Records, while a `with` block runs, when the nodes of a cluster on this host join and first work.

    A node works when one of its worker processes has a title that contains `title`.
    """

    def __init__(self, title: str):
        self._title, self._start = title, time.monotonic()
        self.joined: dict[str, float] = {}
        """Seconds from the start to the registration of each node, by its address."""
        self.worked: dict[str, float] = {}
        """Seconds from the start to the first work of each node, by its address."""
        self._is_done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def delays(self) -> dict[str, float]:
        """Seconds from the registration to the first work of each node that has worked, by its address."""
        return {node: time - self.joined[node] for node, time in self.worked.items()}

    def __enter__(self) -> Self:
        self._start = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._is_done.wait(INTERVAL_S):
            for node in ray.nodes():
                if node["Alive"] and node["Resources"].get("CPU"):
                    self.joined.setdefault(node["NodeManagerAddress"], time.monotonic() - self._start)
            for node_address in working_nodes(self._title) & self.joined.keys():
                self.worked.setdefault(node_address, time.monotonic() - self._start)


def working_nodes(title: str) -> set[str]:
    """Return the addresses of the nodes on this host with a worker process whose title contains `title`."""
    addresses: dict[int, str] = {}
    parents: set[int] = set()
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            if process.name() == "raylet":
                flag = next(part for part in command if part.startswith(_ADDRESS_FLAG))
                addresses[process.pid] = flag.removeprefix(_ADDRESS_FLAG)
            elif command and command[0].startswith("ray::") and title in command[0]:
                parents.add(process.ppid())
        except (psutil.Error, StopIteration):
            continue
    return {addresses[pid] for pid in parents & addresses.keys()}
