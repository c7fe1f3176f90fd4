"""Local Ray sessions that tests share: a start takes seconds, as do the imports of new workers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from cluster.connection.session import session, set_environment

CPUS = 2


@contextmanager
def fake_gpus(cpus: int, gpus: int) -> Iterator[None]:
    """Start a local Ray that counts on GPUs that do not exist."""
    import ray

    set_environment(None)
    settings: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    # "local": otherwise it would join a cluster that runs on this host.
    ray.init("local", num_cpus=cpus, num_gpus=gpus, **settings)
    try:
        yield
    finally:
        ray.shutdown()


class SharedRay:
    """Session of this process with `CPUS` CPUs: kept while tests ask for the same number of GPUs."""

    def __init__(self) -> None:
        self._gpus: int | None = None  # without a session
        self._session = ExitStack()

    def use(self, gpus: int) -> None:
        """Keep the session if it has this number of GPUs, none of which exists; else start another one."""
        if gpus != self._gpus:
            self.close()
            self._session.enter_context(fake_gpus(CPUS, gpus) if gpus else session(cpus=CPUS))
            self._gpus = gpus

    def close(self) -> None:
        """End the session, if there is one."""
        self._session.close()
        self._gpus = None
