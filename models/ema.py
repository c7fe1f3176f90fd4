"""An exponential moving average of a network's weights (Polyak and Juditsky 1992), which is what is kept and used."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


class Ema(Generic[M]):
    """A copy of `model` whose weights follow it slowly.

    The decay grows from 0 as (1 + step) / (10 + step), so that the first weights are soon forgotten. Buffers of floats
    (norm statistics) are averaged too, other buffers copied.
    """

    def __init__(self, model: M, decay: float):
        """`decay` in [0, 1): the part of the average that one step keeps; 0 follows at once."""
        self.decay = decay
        self.step = 0
        self.model: M = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: M) -> None:
        """Takes one step towards the weights of `model`."""
        weight = 1.0 - min(self.decay, (1 + self.step) / (10 + self.step)) if self.decay else 1.0
        self.step += 1
        ours, theirs = self.model.state_dict(), model.state_dict()
        floats = [name for name, value in ours.items() if value.is_floating_point()]
        torch._foreach_lerp_([ours[name] for name in floats], [theirs[name] for name in floats], weight)
        for name in ours.keys() - set(floats):
            ours[name].copy_(theirs[name])
