"""Constant tensors are computed once, and are usable in every mode."""

from __future__ import annotations

import torch
from torch import Tensor

from models.cached_tensors import cached_tensor, clear_cached_tensors

calls: list[int] = []


def ones(size: int, device: torch.device) -> Tensor:
    calls.append(size)
    return torch.ones(size, device=device)


def test_tensor_is_computed_once() -> None:
    clear_cached_tensors()
    calls.clear()
    cpu = torch.device("cpu")
    first, second, other = (cached_tensor(ones, size, cpu) for size in (3, 3, 4))
    assert first is second and other.shape == (4,)
    assert calls == [3, 4]
    for size in range(5, 200):  # a CUDA graph may have the address of any of them
        cached_tensor(ones, size, cpu)
    assert cached_tensor(ones, 3, cpu) is first
    clear_cached_tensors()
    assert cached_tensor(ones, 3, cpu) is not first


def test_tensor_of_inference_mode_is_usable_in_training() -> None:
    clear_cached_tensors()
    with torch.inference_mode():
        cached_tensor(ones, 3, torch.device("cpu"))
    weight_K = torch.ones(3, requires_grad=True)
    (weight_K * cached_tensor(ones, 3, torch.device("cpu"))).sum().backward()
    assert weight_K.grad is not None
