"""Precision, weight-decay groups and optimizer state."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.training.config import Precision

_DTYPES: dict[str, torch.dtype | None] = {
    "fp32": None,
    "tf32": None,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


def resolve_precision(
    precision: Precision, device: torch.device, *, fp16: bool = False
) -> torch.dtype | None:
    """Return the dtype of autocast, None for float32.

    Args:
        precision: a precision, or `auto` for bfloat16 where the hardware supports it natively.
        device: device of the network.
        fp16: on GPUs without bfloat16 (V100, T4), `auto` is float16, for which a loss must be scaled.
    """
    if precision != "auto":
        return _DTYPES[precision]
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16
        return torch.float16 if fp16 else None
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native else None


def set_float32_precision(precision: Precision) -> None:
    """Set how this process computes float32 products on GPUs: exactly for `fp32`, otherwise as TF32.

    TF32 keeps 10 bits of each factor (a relative error of 5e-4) and is several times faster. PyTorch's own
    default is TF32 for convolutions and float32 for matrix products.
    """
    exact = precision == "fp32"
    torch.backends.cudnn.allow_tf32 = not exact
    torch.set_float32_matmul_precision("highest" if exact else "high")


def autocast(
    precision: Precision, device: torch.device, *, fp16: bool = False
) -> Callable[[], torch.autocast]:
    """Return a function that creates the autocast context of a precision."""
    dtype = resolve_precision(precision, device, fp16=fp16)
    return partial(torch.autocast, device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


def initial_learning_rate(value: float, device: torch.device) -> float | Tensor:
    """Return the learning rate for an optimizer, on a GPU as a tensor, which a CUDA graph can change."""
    return torch.tensor(value, device=device) if device.type == "cuda" else value


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float | Tensor) -> None:
    """Set the learning rate of all parameter groups, times their `lr_factor` if they have one."""
    for group in optimizer.param_groups:
        factor = group.get("lr_factor", 1.0)
        group_value = value if factor == 1.0 else value * factor
        if not isinstance(group["lr"], Tensor):
            group["lr"] = group_value
        elif isinstance(group_value, Tensor):
            group["lr"].copy_(group_value)
        else:
            group["lr"].fill_(group_value)


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return parameter groups for AdamW: biases and norm scales (one axis) are not decayed.

    Frozen parameters are in none of them.
    """
    matrices = [p for p in model.parameters() if p.ndim > 1 and p.requires_grad]
    vectors = [p for p in model.parameters() if p.ndim <= 1 and p.requires_grad]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimizer's state as named tensors, `<parameter>/<key>`."""
    return {
        f"{name}/{key}": value
        for name, p in model.named_parameters()
        for key, value in optimizer.state[p].items()
    }


def load_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Restore the optimizer's state from the tensors of `optimizer_tensors`.

    Existing state is overwritten in place, since CUDA graphs refer to it.
    """
    parameters = dict(model.named_parameters())
    for name, value in tensors.items():
        parameter_name, _, key = name.rpartition("/")
        parameter = parameters[parameter_name]
        existing = optimizer.state[parameter].get(key)
        if existing is not None:
            existing.copy_(value)
            continue
        # Moments take the memory layout of their parameter; the step count is a scalar and has none.
        restored = value if value.ndim == 0 else torch.empty_like(parameter).copy_(value)
        optimizer.state[parameter][key] = restored.to(parameter.device)


def reset_optimizer(optimizer: torch.optim.Optimizer) -> None:
    """Set the optimizer's state to that before its first step, in place: moments and step count are zero."""
    for state in optimizer.state.values():
        for value in state.values():
            value.zero_()


def reset_scaler(scaler: torch.amp.GradScaler, optimizer: torch.optim.Optimizer) -> None:
    """Forget a step that was not finished, whose gradients the scaler would not unscale again."""
    scaler._per_optimizer_states.clear()
    for name in ("grad_scale", "found_inf"):
        if hasattr(optimizer, name):
            delattr(optimizer, name)
