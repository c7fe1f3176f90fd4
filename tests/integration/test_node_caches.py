"""Row caches are filled by a task on each node before training starts, with progress and one-line errors."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from pipeline.data.dataset import dataset_digest, is_cached, open_dataset
from pipeline.data.row_cache import cache_folder
from pipeline.data.shard_manifest import open_shards
from pipeline.distributed.resources import ResourceRequest
from pipeline.io.errors import UserError
from pipeline.training import node_caches
from pipeline.training.node_caches import fill_node_caches
from tests.helpers.processes import kill_worker, run_when
from tests.helpers.sounds import write_shards

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(120)]
NEED = ResourceRequest(workers=1, cpus=1)


@pytest.fixture
def shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Path:
    """Write a dataset that counts as large, without a cache."""
    monkeypatch.setattr(node_caches, "SMALL_DATASET_BYTES", 0)
    caplog.set_level(logging.INFO, "melray")
    shutil.rmtree(cache_folder())
    return write_shards(tmp_path)


def test_cache_is_filled_once_by_a_task(shards: Path, caplog: pytest.LogCaptureFixture) -> None:
    manifest = open_shards(shards)
    fill_node_caches([shards], NEED)
    assert is_cached(manifest)
    assert "caching shards: 60 rows" in caplog.text
    for shard in manifest.shards:
        (shards / shard.name).unlink()
    assert len(open_dataset(shards).mels) == 60
    caplog.clear()
    fill_node_caches([shards], NEED)
    assert not caplog.text


def test_damaged_shard_ends_with_one_line(shards: Path) -> None:
    shard = shards / open_shards(shards).shards[1].name
    os.truncate(shard, 100)
    with pytest.raises(UserError, match=rf"shard .*{shard.name} is damaged .*\(on node .*\)$") as raised:
        fill_node_caches([shards], NEED)
    assert "\n" not in str(raised.value)


def test_lost_task_leaves_cache_to_workers(shards: Path, caplog: pytest.LogCaptureFixture) -> None:
    with FileLock(f"{cache_folder() / dataset_digest(open_shards(shards))}.lock"):  # so that the task waits
        killed = run_when(lambda: True, lambda: kill_worker("caching"))
        fill_node_caches([shards], NEED)
        killed.result()
    assert "is not complete (WorkerCrashedError): workers there continue" in caplog.text
    assert len(open_dataset(shards).mels) == 60


def test_more_nodes_than_workers_fill_nothing(shards: Path) -> None:
    fill_node_caches([shards], ResourceRequest(workers=0, cpus=1))
    assert not is_cached(open_shards(shards))
    fill_node_caches([shards], ResourceRequest(workers=1, cpus=99))
    assert not is_cached(open_shards(shards))
