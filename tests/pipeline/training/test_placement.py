"""Training on shares of the rows: each node caches its share, or streams it where the disk is too small."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.classifier import loop as classifier_loop
from pipeline.data import shard_stream
from pipeline.data.dataset import dataset_digest, open_dataset
from pipeline.data.row_cache import cache_bytes, cache_folder, held_rows
from pipeline.data.shard_manifest import open_shards
from pipeline.gan import loop as gan_loop
from pipeline.io.errors import UserError
from pipeline.training import placement
from pipeline.training.config import TrainingConfig
from pipeline.training.placement import open_data
from pipeline.training.run_folder import RunFolder
from pipeline.training.world import World
from tests.helpers.interruption import StoppedError, interrupt
from tests.helpers.ranks import run_ranks
from tests.helpers.runs import SINGLE_WORKER, load_weights, tensors_equal
from tests.helpers.sounds import gan_config, train_config, write_shards

pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return eight shards or more."""
    return write_shards(tmp_path_factory.mktemp("many"), clips=40)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use an empty folder of caches."""
    monkeypatch.setenv("MELRAY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def use_node(name: str, caches: Path, disk: float | None = None) -> None:
    """Make this process a worker of a node with its own caches, which may have `disk` bytes."""
    os.environ["MELRAY_CACHE"] = str(caches / name)
    os.environ["MELRAY_CACHE_GB"] = "" if disk is None else repr(disk / 1e9)
    placement.node_id = lambda: name
    shard_stream.WINDOW_BYTES = 10_000  # several windows also of a small dataset


def train_on_nodes(
    world: World,
    model: str,
    config: TrainingConfig,
    caches: Path,
    nodes: Sequence[str],
    disk: float | None = None,
    stop_at: tuple[int, int] | None = None,
) -> None:
    """Train as one of the workers, each on the node that is named, perhaps only to a step of an epoch."""
    use_node(nodes[world.rank], caches, disk)
    config.run.mkdir(exist_ok=True)
    loop = gan_loop if model == "gan" else classifier_loop
    if stop_at is not None:
        interrupt(pytest.MonkeyPatch(), loop, *stop_at)
    with suppress(StoppedError):
        loop.train_loop(config, world)


def held(caches: Path, node: str, shards: Path) -> np.ndarray:
    manifest = open_shards(shards)
    return held_rows(caches / node / dataset_digest(manifest), manifest)


def notes(run: Path) -> str:
    return " ".join(RunFolder(run).read_json("notes.json") or [])


@pytest.mark.slow
def test_nodes_train_on_their_shares(shards: Path, tmp_path: Path, cache: Path) -> None:
    """Two workers on one node, one on another, and additional rows of fewer shards."""
    extra = write_shards(tmp_path / "extra", clips=4)
    config = train_config(
        shards, tmp_path / "run", extra_shards=(extra,), epochs=10, data_placement="partitioned"
    )
    run_ranks(train_on_nodes, 3, tmp_path / "1", "classifier", config, cache, ("a", "a", "b"), None)
    shares = [held(cache, node, shards) for node in ("a", "b")]
    rows = np.array([shard.rows for shard in open_shards(shards).shards])
    np.testing.assert_array_equal(sum(shares), rows)
    assert shares[0].sum() == pytest.approx(rows.sum() * 2 / 3, abs=1.1 * rows.max())
    assert RunFolder(config.run).read_history()[-1]["val_accuracy"] > 0.9


@pytest.mark.parametrize(
    ("parts_of_disk", "model"),
    [
        pytest.param(1.5, "classifier", marks=pytest.mark.slow),
        pytest.param(1.5, "gan", marks=pytest.mark.slow),
        pytest.param(3.0, "gan", marks=pytest.mark.slow),
        (3.0, "classifier"),
    ],
)
def test_dataset_larger_than_disk_trains(
    parts_of_disk: float, model: str, shards: Path, tmp_path: Path, cache: Path
) -> None:
    """A dataset of 1.5 disks fits on two nodes; one of 3 disks does not, and is streamed."""
    disk = 1.05 * cache_bytes(open_shards(shards)) / parts_of_disk
    settings: dict[str, Any] = {"data_placement": "partitioned"}
    config = (
        gan_config(shards, tmp_path / "run", **settings)
        if model == "gan"
        else train_config(shards, tmp_path / "run", epochs=25, **settings)
    )
    run_ranks(train_on_nodes, 2, tmp_path / "1", model, config, cache, ("a", "b"), disk)
    is_streamed = parts_of_disk > 2
    assert ("read from the shards in every epoch" in notes(config.run)) == is_streamed
    for node in ("a", "b"):
        assert held(cache, node, shards).any() != is_streamed
        assert sum(path.stat().st_blocks * 512 for path in (cache / node).rglob("*.f16")) <= disk
    metrics = RunFolder(config.run).read_history()[-1]
    if model == "classifier":
        assert metrics["val_accuracy"] > 0.9
    else:
        assert np.isfinite(metrics["generator_loss"])
        assert (config.run / "samples/real/grid.png").is_file()


@pytest.mark.slow
def test_replaced_node_reads_its_share_only(shards: Path, tmp_path: Path, cache: Path) -> None:
    """The run continues on a node that keeps its share, though its rank differs, and on a new one."""
    settings: dict[str, Any] = {"data_placement": "partitioned", "epochs": 1}
    config = train_config(shards, tmp_path / "run", **settings)
    run_ranks(train_on_nodes, 2, tmp_path / "1", "classifier", config, cache, ("a", "b"), None)
    kept = held(cache, "b", shards)
    config = config.model_copy(update={"epochs": 2})
    run_ranks(train_on_nodes, 2, tmp_path / "2", "classifier", config, cache, ("b", "c"), None)
    np.testing.assert_array_equal(held(cache, "b", shards), kept)
    np.testing.assert_array_equal(held(cache, "c", shards), held(cache, "a", shards))
    assert [metrics["epoch"] for metrics in RunFolder(config.run).read_history()] == [1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("disk", [None, 1000.0])
def test_resumed_shares_end_with_same_weights(
    disk: float | None, shards: Path, tmp_path: Path, cache: Path
) -> None:
    """Also if the nodes have lost their caches meanwhile."""
    settings: dict[str, Any] = {"epochs": 2, "data_placement": "partitioned"}
    for name, stops in (("expected", [None]), ("run", [(2, 5), None])):
        config = train_config(shards, tmp_path / name, **settings)
        for number, stop_at in enumerate(stops):
            arguments = ("classifier", config, cache / f"{name} {number}", ("a", "b"), disk, stop_at)
            run_ranks(train_on_nodes, 2, tmp_path / f"{name} {number}", *arguments)
    assert tensors_equal(load_weights(tmp_path / "run"), load_weights(tmp_path / "expected"))


def test_single_node_equals_replicated(shards: Path, tmp_path: Path) -> None:
    for placed in ("replicated", "partitioned"):
        config = train_config(shards, tmp_path / placed, epochs=2, data_placement=placed)
        config.run.mkdir()
        classifier_loop.train_loop(config, SINGLE_WORKER)
    assert tensors_equal(load_weights(tmp_path / "replicated"), load_weights(tmp_path / "partitioned"))


def test_streamed_rows_equal_cached_ones(
    shards: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = open_dataset(shards)
    monkeypatch.setenv("MELRAY_CACHE", str(cache / "other"))
    monkeypatch.setenv("MELRAY_CACHE_GB", "1e-6")
    monkeypatch.setattr(shard_stream, "WINDOW_BYTES", 20_000)
    config = train_config(shards, tmp_path, data_placement="partitioned")
    data = open_data(config, SINGLE_WORKER, 16)
    assert data.stream is not None
    rows = np.arange(len(expected.table))
    train, val = rows[rows % 4 > 0], rows[rows % 4 == 0]
    data.train_on(SINGLE_WORKER, train, val[:5])
    np.testing.assert_array_equal(data.datasets[0].mels[val[:5]], expected.mels[val[:5]])
    loader = data.loader(torch.device("cpu"), 0)
    seen = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        for batch in data.sample_batches(expected.labels, train, "uniform", rng, 16):
            np.testing.assert_array_equal(loader(batch).numpy(), expected.mels[batch])
            seen.append(batch)
    np.testing.assert_array_equal(np.unique(np.concatenate(seen)), train)
    np.testing.assert_array_equal(loader(val).numpy(), expected.mels[val])


def test_fewer_shards_than_workers_raise(tmp_path: Path, cache: Path) -> None:
    few = write_shards(tmp_path, clips=4)
    workers = len(open_shards(few).shards) + 1
    config = train_config(few, tmp_path / "run", data_placement="partitioned")
    with pytest.raises(Exception, match="have no training rows; use fewer workers"):
        run_ranks(train_on_nodes, workers, tmp_path / "1", "classifier", config, cache, "abcdefghi", None)


def test_replicated_dataset_beyond_disk_names_placement(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MELRAY_CACHE_GB", "1e-6")
    with pytest.raises(UserError, match="share the rows among nodes with --data-placement partitioned"):
        classifier_loop.train_loop(train_config(shards, tmp_path / "run"), SINGLE_WORKER)
    assert cache_folder().is_dir()
