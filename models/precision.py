"""Parts of a network that compute in float32 whatever the precision of the others."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def float32_only(device: torch.device) -> AbstractContextManager[None]:
    """Return a context in which operations on float32 tensors of a device are not rounded by autocast."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()  # such as the meta device
