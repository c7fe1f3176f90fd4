"""Checkpoints and tensor files: written atomically; the newest intact one is read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipeline.io.errors import UserError
from pipeline.training.checkpoint import STATE_NAME, Checkpoints
from pipeline.training.tensor_file import load_tensors, save_tensors

Groups = dict[str, dict[str, Tensor]]


def make_groups(epoch: int) -> Groups:
    generator = torch.Generator().manual_seed(epoch)
    return {
        "model": {"a.weight": torch.randn(4, 3, 5, 5, generator=generator), "steps": torch.tensor(epoch)},
        "optimizer": {"a.weight/step": torch.tensor(float(epoch))},
        "empty": {},
    }


def groups_equal(a: Groups, b: Groups) -> bool:
    return a.keys() == b.keys() and all(
        a[group].keys() == b[group].keys()
        and all(torch.equal(a[group][name], b[group][name]) for name in a[group])
        for group in a
    )


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for epoch in (1, 2, 3):
        state = {"epoch": epoch, "rng": [1, 2**63], "name": "ü"}
        Checkpoints(tmp_path).write(epoch, make_groups(epoch), state)
    return tmp_path


def checkpoint_names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_newest_checkpoint_is_read_unchanged(run: Path):
    groups, state = Checkpoints(run).read()
    assert groups_equal(groups, make_groups(3))
    assert state == {"epoch": 3, "rng": [1, 2**63], "name": "ü"}


def test_no_checkpoint_reads_none(tmp_path: Path):
    assert Checkpoints(tmp_path).read() is None


def test_two_checkpoints_are_kept_by_default(run: Path):
    assert checkpoint_names(run) == ["epoch_0002", "epoch_0003"]


@pytest.mark.parametrize("keep", [1, 3])
def test_given_number_of_checkpoints_is_kept(keep: int, tmp_path: Path):
    for epoch in range(1, 6):
        Checkpoints(tmp_path, keep).write(epoch, {}, {"epoch": epoch})
    assert checkpoint_names(tmp_path) == [f"epoch_{epoch:04d}" for epoch in range(6 - keep, 6)]


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors"])
def test_checkpoint_with_damaged_tensors_is_skipped(file: str, run: Path):
    damage(run / "checkpoints/epoch_0003" / file)
    groups, state = Checkpoints(run).read()
    assert state["epoch"] == 2 and groups_equal(groups, make_groups(2))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        '{"epoch": 3}',
        "[]",
        "null",
        '{"format_version": 2, "digests": 3}',
        '{"format_version": 2, "digests": {"other": "00"}}',
    ],
)
def test_checkpoint_with_damaged_state_is_skipped(content: str, run: Path):
    (run / "checkpoints/epoch_0003" / STATE_NAME).write_text(content)
    assert Checkpoints(run).read()[1]["epoch"] == 2


def test_checkpoint_with_flipped_bit_in_state_is_skipped(run: Path):
    path = run / "checkpoints/epoch_0003" / STATE_NAME
    path.write_text(path.read_text().replace('"epoch": 3', '"epoch": 7'))
    assert Checkpoints(run).read()[1]["epoch"] == 2


def test_checkpoint_without_digest_of_state_is_read(run: Path):
    """As written by melray 0.2."""
    path = run / "checkpoints/epoch_0003" / STATE_NAME
    state = json.loads(path.read_text())
    del state["sha256"]
    path.write_text(json.dumps(state))
    assert Checkpoints(run).read()[1] == {"epoch": 3, "rng": [1, 2**63], "name": "ü"}


def test_checkpoint_with_missing_file_is_skipped(run: Path):
    (run / "checkpoints/epoch_0003/model.safetensors").unlink()
    assert Checkpoints(run).read()[1]["epoch"] == 2


def test_no_intact_checkpoint_is_an_error(run: Path):
    for path in run.glob("checkpoints/*/model.safetensors"):
        damage(path)
    with pytest.raises(
        UserError,
        match=r"no intact checkpoint in .*model.safetensors is damaged; choose another --run",
    ):
        Checkpoints(run).read()


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (None, r"epoch_0003/state.json was written by melray < 0.2: train again in a new --run"),
        (1, r"epoch_0003/state.json was written by melray < 0.2: train again in a new --run"),
        (3, r"epoch_0003/state.json has format version 3, this melray reads 2: update melray"),
    ],
)
def test_checkpoint_of_another_format_is_refused(version: int | None, message: str, run: Path):
    path = run / "checkpoints/epoch_0003" / STATE_NAME
    state = json.loads(path.read_text())
    del state["format_version"]
    path.write_text(json.dumps(state if version is None else {**state, "format_version": version}))
    with pytest.raises(UserError, match=message):
        Checkpoints(run).read()


def test_incomplete_checkpoint_is_ignored_and_replaced(run: Path):
    incomplete = run / "checkpoints/epoch_0004"
    shutil.copytree(run / "checkpoints/epoch_0003", incomplete)
    (incomplete / STATE_NAME).unlink()
    (incomplete / ".model.safetensors.0123.tmp").touch()
    assert Checkpoints(run).read()[1]["epoch"] == 3
    Checkpoints(run).write(4, make_groups(4), {"epoch": 4})
    assert groups_equal(Checkpoints(run).read()[0], make_groups(4))
    assert checkpoint_names(run) == ["epoch_0003", "epoch_0004"]
    assert not (incomplete / ".model.safetensors.0123.tmp").exists()


def test_checkpoint_that_a_killed_worker_was_writing_is_deleted(run: Path):
    partial = run / "checkpoints" / "epoch_0003_step_0500"
    partial.mkdir()
    (partial / "model.safetensors").touch()
    (run / "checkpoints" / "epoch_of_mine").mkdir()
    before = checkpoint_names(run)
    Checkpoints(run).write(4, make_groups(4), {"epoch": 4})
    assert partial.name in before and not partial.exists()
    assert (run / "checkpoints" / "epoch_of_mine").exists()


def test_checkpoint_can_be_rewritten(run: Path):
    Checkpoints(run).write(3, make_groups(33), {"epoch": 3, "rewritten": True})
    groups, state = Checkpoints(run).read()
    assert state["rewritten"] and groups_equal(groups, make_groups(33))


def test_failed_write_keeps_previous_checkpoint(run: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(descriptor: int):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        Checkpoints(run).write(4, make_groups(4), {"epoch": 4})
    assert Checkpoints(run).read()[1]["epoch"] == 3


def test_checkpoints_are_ordered_beyond_epoch_9999(tmp_path: Path):
    for epoch in (9_998, 9_999, 10_000, 10_001):
        Checkpoints(tmp_path).write(epoch, {}, {"epoch": epoch})
    assert Checkpoints(tmp_path).read()[1]["epoch"] == 10_001
    assert checkpoint_names(tmp_path) == ["epoch_10000", "epoch_10001"]


def test_tensors_of_any_layout_are_saved(tmp_path: Path):
    base = torch.arange(240.0).reshape(2, 3, 5, 8)
    tensors = {
        "channels last": base.to(memory_format=torch.channels_last),
        "transposed": base[0, 0].T,
        "strided": base[:, 1, ::2],
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


def test_missing_tensor_file_is_an_error(tmp_path: Path):
    with pytest.raises(UserError, match="no such file"):
        load_tensors(tmp_path / "missing.safetensors")


def test_damaged_tensor_file_is_an_error(tmp_path: Path):
    path = tmp_path / "a.safetensors"
    save_tensors(path, {"a": torch.zeros(100)})
    intact = path.read_bytes()
    for content in (b"", b"x", intact[:20], intact[:-1], json.dumps({"a": 1}).encode(), b"\x80\x04pickle"):
        path.write_bytes(content)
        with pytest.raises(UserError, match="is damaged"):
            load_tensors(path)


@pytest.mark.parametrize("text", ["tensors", "metadata"])
def test_flipped_bit_in_tensor_file_is_found(text: str, tmp_path: Path):
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"a": torch.zeros(1000), "b": torch.tensor(1)}, {"name": "Hündin"})
    assert load_tensors(path)[1] == {"name": "Hündin"}
    content = bytearray(path.read_bytes())
    content[-500 if text == "tensors" else content.index("Hündin".encode())] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"x.safetensors is damaged \(.*SHA-256\): restore it from a copy"):
        load_tensors(path)


def test_tensor_file_has_the_same_bytes_always(tmp_path: Path):
    tensors, metadata = {"a": torch.zeros(3), "b": torch.ones(2)}, {"x": 1.5, "y": None}
    digests = {save_tensors(tmp_path / str(number), tensors, metadata) for number in range(10)}
    assert len(digests) == 1
