"""Exponential moving average (EMA) of the weights of a network (Polyak and Juditsky 1992)."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


class Ema(Generic[M]):
    """Averaged copy of a network, in evaluation mode and without gradients.

    The effective decay is min(decay, (1 + step) / (10 + step)), so that the initial weights are forgotten
    quickly. Floating-point buffers (statistics of batch norm) are averaged too; other buffers are copied.
    """

    def __init__(self, model: M, decay: float):
        """Copy `model`; `decay` in [0, 1) is the weight of the average in an update, 0 copies the model."""
        self.decay = decay
        self.step = 0
        self.model: M = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: M) -> None:
        """Move the average towards the weights of `model` by one step."""
        weight = 1.0 - min(self.decay, (1 + self.step) / (10 + self.step)) if self.decay else 1.0
        self.step += 1
        averages, values = self.model.state_dict(), model.state_dict()
        floats = [name for name, average in averages.items() if average.is_floating_point()]
        torch._foreach_lerp_([averages[name] for name in floats], [values[name] for name in floats], weight)
        for name in averages.keys() - set(floats):
            averages[name].copy_(values[name])
