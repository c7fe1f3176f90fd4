"""All workers continue from the same checkpoint, whatever one of them cannot read; or all raise one error."""

from __future__ import annotations

import errno
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from pipeline.classifier import loop
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.state import TrainState
from pipeline.io import transient_errors
from pipeline.io.errors import UserError
from pipeline.training.checkpoint import STATE_NAME, Checkpoint, Checkpoints
from pipeline.training.tensor_file import load_tensors, save_tensors
from pipeline.training.world import World
from tests.helpers.runs import SINGLE_WORKER, tensors_equal
from tests.helpers.sounds import train_config, write_shards

RANKS = 3


@dataclass
class Exchange:
    """Values of ranks that are threads of this process."""

    barrier: threading.Barrier = field(default_factory=lambda: threading.Barrier(RANKS, timeout=20))
    values: list[Any] = field(default_factory=lambda: [None] * RANKS)


@dataclass(frozen=True)
class ThreadWorld(World):
    """World of ranks that are threads."""

    exchange: Exchange = field(default_factory=Exchange)

    def gather(self, value: Any) -> list[Any]:
        self.exchange.values[self.rank] = value
        self.exchange.barrier.wait()
        values = list(self.exchange.values)
        self.exchange.barrier.wait()
        return values


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the run folder of each rank, with the same checkpoints of the epochs 1 to 3."""
    monkeypatch.setattr(transient_errors, "DELAYS_S", (0.01, 0.01))
    for epoch in (1, 2, 3):
        tensors = {"model": {"weight": torch.full((100,), float(epoch))}}
        Checkpoints(tmp_path / "0", keep=3).write(epoch, tensors, {"epoch": epoch})
    for rank in range(1, RANKS):
        shutil.copytree(tmp_path / "0", tmp_path / str(rank))
    return [tmp_path / str(rank) for rank in range(RANKS)]


def read_on_all_ranks(runs: Sequence[Path]) -> list[Checkpoint | None]:
    """Read on all ranks, each from its folder."""
    exchange = Exchange()
    with ThreadPoolExecutor(RANKS) as pool:
        reads = [
            pool.submit(
                Checkpoints(run).read, ThreadWorld(rank, RANKS, torch.device("cpu"), exchange=exchange)
            )
            for rank, run in enumerate(runs)
        ]
        errors = [read.exception() for read in reads]
    if any(errors):
        assert len({str(error) for error in errors}) == 1, errors
        assert errors[0] is not None
        raise errors[0]
    return [read.result() for read in reads]


def epochs_read(runs: Sequence[Path]) -> list[int]:
    """Read on all ranks; return the epoch of each, after a check that the tensors are those of the epoch."""
    checkpoints = read_on_all_ranks(runs)
    for checkpoint in checkpoints:
        assert checkpoint is not None
        assert (checkpoint.tensors["model"]["weight"] == checkpoint.state["epoch"]).all()
    return [checkpoint.state["epoch"] for checkpoint in checkpoints if checkpoint]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)


def replace_by_other_content(path: Path) -> None:
    """Write an intact checkpoint of another run."""
    tensors = {"model": {"weight": torch.zeros(100)}}
    Checkpoints(path.parents[2], keep=3).write(3, tensors, {"epoch": 3})


def test_all_ranks_read_the_newest(runs: list[Path]):
    assert epochs_read(runs) == [3, 3, 3]


@pytest.mark.parametrize("rank", range(RANKS))
@pytest.mark.parametrize("name", [STATE_NAME, "model.safetensors"])
@pytest.mark.parametrize("change", [flip, Path.unlink])
def test_damage_on_one_rank_moves_all(
    change: Callable[[Path], None], name: str, rank: int, runs: list[Path], caplog: pytest.LogCaptureFixture
):
    change(runs[rank] / "checkpoints/epoch_0003" / name)
    assert epochs_read(runs) == [2, 2, 2]
    if not (rank == 0 and change is Path.unlink and name == STATE_NAME):  # not a checkpoint at all then
        assert f"{rank}/checkpoints/epoch_0003/{name}" in caplog.text
        assert "continuing from epoch_0002" in caplog.text


def test_intact_checkpoint_of_other_content_moves_all(runs: list[Path]):
    replace_by_other_content(runs[1] / "checkpoints/epoch_0003/model.safetensors")
    assert epochs_read(runs) == [2, 2, 2]


def test_damage_on_several_ranks_moves_all(runs: list[Path]):
    flip(runs[0] / "checkpoints/epoch_0002/model.safetensors")
    flip(runs[2] / "checkpoints/epoch_0003" / STATE_NAME)
    assert epochs_read(runs) == [1, 1, 1]


def test_ranks_without_common_checkpoint_raise_same_error(runs: list[Path]):
    for rank, epoch in ((0, 2), (1, 3), (2, 1)):
        flip(runs[rank] / f"checkpoints/epoch_{epoch:04d}/model.safetensors")
    with pytest.raises(UserError, match=r"no intact checkpoint in .*/1/checkpoints/epoch_0003/model.safet"):
        read_on_all_ranks(runs)


def test_run_folder_of_one_node_raises_same_error(runs: list[Path]):
    """Storage that the other nodes do not reach: they must not start from scratch."""
    shutil.rmtree(runs[1])
    with pytest.raises(UserError, match=r"no intact checkpoint .*missing while reading .*/1/.* \(worker on "):
        read_on_all_ranks(runs)


def test_no_checkpoint_reads_none_on_all_ranks(runs: list[Path]):
    shutil.rmtree(runs[0])  # rank 0 decides
    assert read_on_all_ranks(runs) == [None] * RANKS


class FailingReads:
    """Makes the first reads of files with a name fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, part: str, error: OSError, count: int):
        self.attempts, self._original = 0, Path.read_bytes

        def read_bytes(path: Path) -> bytes:
            if part in str(path):
                self.attempts += 1
                if self.attempts <= count:
                    raise error
            return self._original(path)

        monkeypatch.setattr(Path, "read_bytes", read_bytes)


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Input/output error"),
        OSError(errno.ESTALE, "Stale file handle"),
        TimeoutError(errno.ETIMEDOUT, "Connection timed out"),
        OSError("When reading information for key 'x' in bucket 'y': AWS Error SLOW_DOWN (HTTP status 503)"),
    ],
)
def test_transient_error_is_no_damage(
    error: OSError, rank: int, runs: list[Path], monkeypatch: pytest.MonkeyPatch
):
    part = f"/{rank}/checkpoints/epoch_0003/{STATE_NAME}"
    reads = FailingReads(monkeypatch, part, error, count=2)
    assert epochs_read(runs) == [3, 3, 3]
    assert reads.attempts == 3


def test_lasting_error_moves_all(runs: list[Path], monkeypatch: pytest.MonkeyPatch):
    part = "/1/checkpoints/epoch_0003/model"
    reads = FailingReads(monkeypatch, part, OSError(errno.EIO, "Input/output error"), count=99)
    assert epochs_read(runs) == [2, 2, 2]
    assert reads.attempts == 3


def test_denied_access_is_not_repeated(runs: list[Path], monkeypatch: pytest.MonkeyPatch):
    reads = FailingReads(monkeypatch, "/0/", PermissionError(errno.EACCES, "Permission denied"), count=99)
    with pytest.raises(UserError, match="permission denied while reading"):
        read_on_all_ranks(runs)
    assert reads.attempts == 3  # one for each checkpoint


def _train_as_rank(
    rank: int, configs: Sequence[TrainClassifierConfig], rendezvous: Path, weights: Path
) -> None:
    """Train as one of two workers, each with its own copy of the run folder; write the resulting weights."""
    torch.set_num_threads(1)
    states: list[TrainState] = []
    prepare = loop.prepare

    def keep_state(config: TrainClassifierConfig, world: World) -> TrainState:
        states.append(prepare(config, world))
        return states[-1]

    loop.prepare = keep_state
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    result = loop.train_loop(configs[rank], World.current(torch.device("cpu")))
    assert result["epochs"] == 4
    save_tensors(weights / f"{rank}.safetensors", states[0].model.state_dict())


def test_two_gloo_workers_resume_with_equal_weights(tmp_path: Path) -> None:
    """One of them cannot read the newest checkpoint: alone it would continue from the epoch before."""
    configs = [train_config(write_shards(tmp_path), tmp_path / str(rank), epochs=4) for rank in (0, 1)]
    configs[0].run.mkdir()
    loop.train_loop(configs[0].model_copy(update={"epochs": 3}), SINGLE_WORKER)
    shutil.copytree(configs[0].run, configs[1].run)
    (configs[1].run / "checkpoints/epoch_0003" / STATE_NAME).write_text("{")
    mp.start_processes(
        _train_as_rank, (configs, tmp_path / "rendezvous", tmp_path), nprocs=2, start_method="fork"
    )
    first, second = (load_tensors(tmp_path / f"{rank}.safetensors")[0] for rank in (0, 1))
    for statistics in [name for name in first if "running_" in name]:  # batch norm's are those of each rank
        del first[statistics], second[statistics]
    assert len(first) > 10
    assert tensors_equal(first, second)
