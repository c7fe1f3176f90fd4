"""Averages of the weights of a network over training steps (Polyak and Juditsky 1992).

They are an exponential moving average (EMA), and from a step on, if one is given, the mean of all steps since
then: stochastic weight averaging (SWA, Izmailov et al. 2018).
"""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


class Ema(Generic[M]):
    """Averaged copy of a network, in evaluation mode and without gradients.

    The effective decay is min(decay, (1 + step) / (10 + step)), so that the initial weights are forgotten
    quickly. Floating-point buffers (statistics of batch norm) are averaged too; other buffers are copied.
    """

    def __init__(self, model: M, decay: float, mean_from: int | None = None):
        """Copy `model`, whose weights may change in place only: their tensors are kept.

        Args:
            model: the network.
            decay: weight of the average in an update, in [0, 1); 0 copies the model.
            mean_from: step, counted from 0, from which on the average is the mean of all steps since then.
        """
        self.decay, self.mean_from = decay, mean_from
        self.step = 0
        self.model: M = copy.deepcopy(model).eval().requires_grad_(False)
        averages, values = self.model.state_dict(), model.state_dict()
        floats = [name for name, average in averages.items() if average.is_floating_point()]
        self._averages, self._values = [averages[name] for name in floats], [values[name] for name in floats]
        self._copies = [(averages[name], values[name]) for name in averages.keys() - set(floats)]

    def weight_at(self, step: int) -> float:
        """Return the weight of the model in the update of a step, counted from 0."""
        if self.mean_from is not None and step >= self.mean_from:
            return 1.0 / (step - self.mean_from + 1)
        return 1.0 - min(self.decay, (1 + step) / (10 + step)) if self.decay else 1.0

    @torch.no_grad()
    def update(self, weight: float | Tensor) -> None:
        """Move the average towards the weights of the model by `weight`, which is `weight_at(self.step)`."""
        if not self.decay and self.mean_from is None:
            torch._foreach_copy_(self._averages, self._values)
        elif isinstance(weight, Tensor):
            # `_foreach_lerp_` takes no scalar tensor, which a CUDA graph needs.
            differences = torch._foreach_sub(self._values, self._averages)
            torch._foreach_mul_(differences, weight)
            torch._foreach_add_(self._averages, differences)
        else:
            torch._foreach_lerp_(self._averages, self._values, weight)
        for average, value in self._copies:
            average.copy_(value)
