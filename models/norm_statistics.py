"""Statistics of batch norm, computed again for weights that were not trained with them.

The activations of a mean of weights have another variance than the mean of the variances, so that batch norm
needs statistics of its own (Izmailov et al. 2018, section 3.2). Some thousand rows are enough (Wu and Johnson
2021, section 3).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from models.norm import SyncBatchNorm2d


@torch.no_grad()
def recompute_statistics(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the running statistics of batch norm to the means of those of batches, each with the same weight.

    Every worker has the same batches, so nothing is synchronized. Everything else runs as in evaluation, such
    as dropout, and so do layers that `model.train()` leaves in evaluation mode. The model is in evaluation
    mode afterwards.

    Args:
        model: the network.
        batches: its inputs.
    """
    model.train()
    norms = [
        module
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        and module.training
        and module.track_running_stats
    ]
    model.eval()
    momenta = [norm.momentum for norm in norms]
    synchronized = [norm for norm in norms if isinstance(norm, SyncBatchNorm2d)]
    for norm in norms:
        norm.train()
    for norm in synchronized:
        norm.synchronizes = False
    try:
        for number, batch in enumerate(batches if norms else (), 1):
            for norm in norms:
                norm.momentum = 1 / number
            model(batch)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for norm in synchronized:
            norm.synchronizes = True
        model.eval()
