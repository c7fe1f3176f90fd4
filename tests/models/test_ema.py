"""Mean of the weights from a step on, which replaces their exponential moving average."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.ema import Ema

DECAY, MEAN_FROM = 0.5, 2


@pytest.mark.parametrize("on_gpu", [False, True])
@pytest.mark.parametrize("decay", [0.0, DECAY])
def test_average_is_mean_from_step_on(decay: float, on_gpu: bool) -> None:
    """On GPUs the weight is a tensor."""
    model = nn.Linear(3, 2)
    ema = Ema(model, decay, MEAN_FROM)
    values = []
    for step in range(6):
        with torch.no_grad():
            model.weight.fill_(10.0 + step**2)
        values.append(10.0 + step**2)
        weight = ema.weight_at(step)
        ema.update(torch.tensor(weight) if on_gpu else weight)
        if step >= MEAN_FROM:
            since = values[MEAN_FROM:]
            expected = torch.full_like(model.weight, sum(since) / len(since))
            torch.testing.assert_close(ema.model.weight, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("decay", [0.0, DECAY])
def test_average_before_mean_is_that_of_decay(decay: float) -> None:
    with_mean, without = Ema(nn.Linear(3, 2), decay, 5), Ema(nn.Linear(3, 2), decay)
    assert [with_mean.weight_at(step) for step in range(5)] == [without.weight_at(step) for step in range(5)]
    assert [with_mean.weight_at(5), with_mean.weight_at(6), with_mean.weight_at(8)] == [1, 1 / 2, 1 / 4]
