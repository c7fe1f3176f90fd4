"""States are whole or not there; the newest whole one wins."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipeline.io.errors import UserError
from pipeline.training.checkpoint import STATE_NAME, Checkpoints, load_tensors, save_tensors

Groups = dict[str, dict[str, Tensor]]


def some_tensors(epoch: int) -> Groups:
    generator = torch.Generator().manual_seed(epoch)
    return {
        "model": {"a.weight": torch.randn(4, 3, 5, 5, generator=generator), "steps": torch.tensor(epoch)},
        "optimizer": {"a.weight/step": torch.tensor(float(epoch))},
        "nothing": {},
    }


def same(a: Groups, b: Groups) -> bool:
    return a.keys() == b.keys() and all(
        a[group].keys() == b[group].keys()
        and all(torch.equal(a[group][name], b[group][name]) for name in a[group])
        for group in a
    )


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for epoch in (1, 2, 3):
        Checkpoints(tmp_path).write(
            epoch, some_tensors(epoch), {"epoch": epoch, "rng": [1, 2**63], "name": "ü"}
        )
    return tmp_path


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_the_newest_is_read_as_it_was_written_and_two_are_kept(run: Path):
    tensors, state = Checkpoints(run).read()
    assert same(tensors, some_tensors(3))
    assert state == {"epoch": 3, "rng": [1, 2**63], "name": "ü"}
    assert names(run) == ["epoch_0002", "epoch_0003"]


def test_no_epoch_yet(tmp_path: Path):
    assert Checkpoints(tmp_path).read() is None


@pytest.mark.parametrize("keep", [1, 3])
def test_as_many_are_kept_as_asked_for(keep: int, tmp_path: Path):
    for epoch in range(1, 6):
        Checkpoints(tmp_path, keep).write(epoch, {}, {"epoch": epoch})
    assert names(tmp_path) == [f"epoch_{epoch:04d}" for epoch in range(6 - keep, 6)]


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors"])
def test_a_damaged_newest_is_passed_over(file: str, run: Path):
    spoil(run / "checkpoints/epoch_0003" / file)
    tensors, state = Checkpoints(run).read()
    assert state["epoch"] == 2 and same(tensors, some_tensors(2))


@pytest.mark.parametrize(
    "content", ["", "{", '{"epoch": 3}', "[]", "null", '{"digests": 3}', '{"digests": {"other": "00"}}']
)
def test_a_newest_with_a_damaged_state_is_passed_over(content: str, run: Path):
    (run / "checkpoints/epoch_0003" / STATE_NAME).write_text(content)
    assert Checkpoints(run).read()[1]["epoch"] == 2


def test_a_newest_with_a_missing_file_is_passed_over(run: Path):
    (run / "checkpoints/epoch_0003/model.safetensors").unlink()
    assert Checkpoints(run).read()[1]["epoch"] == 2


def test_all_damaged_is_an_error_and_not_a_new_start(run: Path):
    for path in run.glob("checkpoints/*/model.safetensors"):
        spoil(path)
    with pytest.raises(
        UserError,
        match=r"no whole checkpoint in .*model.safetensors is damaged or missing; choose another --run",
    ):
        Checkpoints(run).read()


def test_what_a_killed_writer_left_is_ignored_and_replaced(run: Path):
    left = run / "checkpoints/epoch_0004"
    shutil.copytree(run / "checkpoints/epoch_0003", left)
    (left / STATE_NAME).unlink()
    (left / ".model.safetensors.0123.tmp").touch()
    assert Checkpoints(run).read()[1]["epoch"] == 3
    Checkpoints(run).write(4, some_tensors(4), {"epoch": 4})
    assert same(Checkpoints(run).read()[0], some_tensors(4))
    assert names(run) == ["epoch_0003", "epoch_0004"]
    assert not (left / ".model.safetensors.0123.tmp").exists()


def test_an_epoch_can_be_written_again(run: Path):
    Checkpoints(run).write(3, some_tensors(33), {"epoch": 3, "again": True})
    tensors, state = Checkpoints(run).read()
    assert state["again"] and same(tensors, some_tensors(33))


def test_a_write_that_fails_leaves_the_one_before(run: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        Checkpoints(run).write(4, some_tensors(4), {"epoch": 4})
    assert Checkpoints(run).read()[1]["epoch"] == 3


def test_the_ten_thousandth_epoch_is_newer_than_the_one_before(tmp_path: Path):
    for epoch in (9_998, 9_999, 10_000, 10_001):
        Checkpoints(tmp_path).write(epoch, {}, {"epoch": epoch})
    assert Checkpoints(tmp_path).read()[1]["epoch"] == 10_001
    assert names(tmp_path) == ["epoch_10000", "epoch_10001"]


def test_tensors_in_any_layout_are_kept(tmp_path: Path):
    base = torch.arange(240.0).reshape(2, 3, 5, 8)
    tensors = {
        "channels last": base.to(memory_format=torch.channels_last),
        "transposed": base[0, 0].T,
        "part": base[:, 1, ::2],
        "shared": base,
        "shared too": base,
        "scalar": torch.tensor(3, dtype=torch.int64),
        "empty": torch.zeros(0, 4),
        "half": torch.randn(3).bfloat16(),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    digest = save_tensors(tmp_path / "a.safetensors", tensors, {"name": "ü", "list": [1, None, {"x": 0.1}]})
    loaded, metadata = load_tensors(tmp_path / "a.safetensors")
    assert loaded.keys() == tensors.keys()
    for name, value in tensors.items():
        assert loaded[name].dtype == value.dtype and torch.equal(loaded[name], value.detach())
    assert metadata == {"name": "ü", "list": [1, None, {"x": 0.1}]}
    assert save_tensors(tmp_path / "b.safetensors", tensors, metadata) == digest
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_a_file_that_is_not_there_or_no_tensors(tmp_path: Path):
    with pytest.raises(UserError, match="no such file"):
        load_tensors(tmp_path / "missing.safetensors")
    path = tmp_path / "a.safetensors"
    save_tensors(path, {"a": torch.zeros(100)})
    whole = path.read_bytes()
    for content in (b"", b"x", whole[:20], whole[:-1], json.dumps({"a": 1}).encode(), b"\x80\x04pickle"):
        path.write_bytes(content)
        with pytest.raises(UserError, match="is damaged"):
            load_tensors(path)
