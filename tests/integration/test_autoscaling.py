"""Autoscaling: commands request nodes from a cluster without CPUs, for at most --wait-for-nodes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.connection.session import session
from pipeline.classifier.train import train_classifier
from pipeline.extract import extract
from pipeline.io.errors import UserError
from tests.helpers.autoscaling_cluster import AutoscalingCluster
from tests.helpers.processes import wait_until
from tests.helpers.sounds import extract_config, train_config, write_tones

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_ray_session"), pytest.mark.timeout(200)]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[AutoscalingCluster]:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    cluster = AutoscalingCluster(max_nodes=2)
    try:
        with session(cluster.address):
            yield cluster
    finally:
        cluster.shut_down()


def test_nodes_are_added_on_demand(cluster: AutoscalingCluster, tmp_path: Path) -> None:
    config = extract_config(write_tones(tmp_path / "data", clips=8), tmp_path / "shards")
    start = time.monotonic()
    with pytest.raises(
        UserError,
        match=r"needs 1 worker with 1 CPU, but only 0 fit .*: start a node with CPUs, add nodes, or wait",
    ):
        extract(config)
    assert time.monotonic() - start < 5 and cluster.num_nodes == 0, "waited without --wait-for-nodes"
    manifest = extract(config.model_copy(update={"wait_for_nodes": 1.5}))
    assert manifest.clips == 24 and cluster.num_nodes >= 1
    # The cluster cannot grow to a third worker: when the time is up, the error states what is available.
    train = train_config(config.out, tmp_path / "run", epochs=1, cpus_per_worker=1)
    with pytest.raises(
        UserError,
        match=r"needs 3 workers with 1 CPU each, but only 2 fit after 15 s \(1 CPU, 1 CPU\): "
        r".*a larger --wait-for-nodes",
    ):
        train_classifier(train.model_copy(update={"workers": 3, "wait_for_nodes": 0.25}))
    assert train_classifier(train.model_copy(update={"workers": 2, "wait_for_nodes": 1.5}))["epochs"] == 1
    assert cluster.num_nodes == 2
    # Idle nodes are removed.
    wait_until(lambda: cluster.num_nodes == 0, 45)
