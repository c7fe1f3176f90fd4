"""Batches of inference: their sizes, and the copies to a device."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from models.device_batches import device_batch_size, pinned, to_device
from tests.helpers.simulated_device import DEVICE, TO_CPU, TO_DEVICE, simulated_device

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("gigabytes", "expected"), [(8, 102), (16, 204), (80, 512), (0.001, 1)], ids=lambda value: f"{value:g}"
)
def test_gpu_batch_fits_into_its_memory(
    gigabytes: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    properties = SimpleNamespace(total_memory=int(gigabytes * 1e9))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    assert device_batch_size(9.8e6, torch.device("cuda"), 64, 512) == expected


def test_batch_size_of_cpu_is_fixed() -> None:
    assert device_batch_size(1e12, CPU, 64, 512) == 64


def test_values_on_cpu_are_not_copied() -> None:
    values = np.arange(3.0)
    tensor = to_device(values, CPU)
    assert to_device(tensor, CPU) is tensor
    values[0] = 9
    assert tensor.tolist() == [9, 1, 2]


def test_strided_values_are_copied_at_once() -> None:
    values = np.arange(12.0).reshape(3, 4)[:, ::2]
    with simulated_device() as copies:
        tensor = to_device(values, DEVICE)
        assert copies == {TO_DEVICE: 1} and tensor.device == DEVICE
        assert tensor.cpu().tolist() == values.tolist()
        assert copies == {TO_DEVICE: 1, TO_CPU: 1}


def test_simulated_device_refuses_to_mix_tensors() -> None:
    with simulated_device() as copies:
        tensor = torch.ones(3, device=DEVICE)
        view = (tensor + 1.0)[1:]
        view.mul_(torch.tensor(2.0))
        assert view.cpu().tolist() == [4, 4]
        with pytest.raises(
            RuntimeError, match=r"aten.add.Tensor: tensors of the device and of the CPU \(3,\)"
        ):
            tensor + torch.ones(3)
        assert float(view.sum()) == 8 and copies == {TO_CPU: 2}
    with pytest.raises(RuntimeError, match="outside of simulated_device"):
        tensor + 1


def test_expanded_tensor_is_copied_before_it_is_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pinned memory has the strides of its source, and torch does not write to an element several times."""

    def pin_memory(tensor: torch.Tensor) -> torch.Tensor:
        assert torch._debug_has_internal_overlap(tensor) == 0
        return tensor

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    expanded = torch.arange(3.0)[None].expand(4, 3)
    assert torch._debug_has_internal_overlap(expanded) == 1
    assert torch.equal(pinned(expanded), expanded)
    whole = torch.ones(2, 3)
    assert pinned(whole) is whole
