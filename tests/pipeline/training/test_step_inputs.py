"""Inputs of a step: packing keeps values, layouts differ by shape, prefetching keeps order and errors."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch

from pipeline.training.step_inputs import PackedInputs, pack, prefetch, prepare_inputs

ARRAYS = {
    "rows": np.array([3, 1, 2**40]),
    "mel": np.arange(2 * 3 * 5, dtype=np.float16).reshape(2, 3, 5),
    "flags": np.zeros((2, 0), np.int32),
    "uniform": np.array([[0.1], [0.7]]),
    "strided": np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2],
    "scale": 0.25,
}


def test_packed_values_equal_originals() -> None:
    packed = pack(ARRAYS, pin=False)
    views = packed.layout.views(packed.buffer)
    assert list(views) == list(ARRAYS)
    for name, value in ARRAYS.items():
        assert np.array_equal(views[name].numpy(), np.asarray(value)), name
        assert views[name].storage_offset() * views[name].itemsize % 16 == 0
    assert views["scale"].shape == () and views["scale"].dtype == torch.float32


def test_layouts_are_equal_for_equal_shapes_only() -> None:
    other = {**ARRAYS, "rows": np.array([9, 9, 9])}
    longer = {**ARRAYS, "rows": np.array([1, 2, 3, 4])}
    layouts = [pack(arrays, pin=False).layout for arrays in (ARRAYS, other, longer)]
    assert layouts[0] == layouts[1] != layouts[2]
    assert len({*layouts}) == 2


def test_cpu_inputs_share_memory_and_keep_numbers() -> None:
    rows = np.arange(4)
    inputs = prepare_inputs({"rows": rows, "scale": 1 / 3}, torch.device("cpu"))
    assert not isinstance(inputs, PackedInputs)
    rows[0] = 7
    assert inputs["rows"].tolist() == [7, 1, 2, 3] and inputs["scale"] == 1 / 3


def test_inputs_for_other_devices_are_packed() -> None:
    assert isinstance(prepare_inputs({"rows": np.arange(4)}, torch.device("meta")), PackedInputs)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_prefetch_yields_all_in_order(device: str) -> None:
    assert list(prefetch(lambda n: n * n, 20, torch.device(device))) == [n * n for n in range(20)]


def test_prefetch_works_ahead_by_depth_only() -> None:
    done: list[int] = []
    items = prefetch(done.append, 50, torch.device("cuda"), depth=3)
    next(items)
    deadline = time.monotonic() + 5
    while len(done) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    # One taken, three in the queue, one that waits to be put there.
    assert len(done) == 5
    items.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_prefetch_raises_error_at_its_item(device: str) -> None:
    def fail_at_two(number: int) -> int:
        if number == 2:
            raise ValueError("no such row")
        return number

    items = prefetch(fail_at_two, 5, torch.device(device))
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(ValueError, match="no such row"):
        next(items)
