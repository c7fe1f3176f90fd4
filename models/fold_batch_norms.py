"""Batch norms become part of the convolutions before them, for inference."""

from __future__ import annotations

import itertools

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.norm import SyncBatchNorm2d


def fold_batch_norms(network: nn.Module) -> None:
    """Fold batch norms into the convolutions before them, in place; results differ by rounding only.

    In evaluation mode a batch norm is a constant factor and offset of each channel: a pass over the feature
    maps, and a second copy of them, that the convolution can do without. Those in an `nn.Sequential` are
    folded. The network can no longer be trained, nor can weights be loaded into it.
    """
    for module in network.modules():
        if not isinstance(module, nn.Sequential):
            continue
        for (index, conv), (following, norm) in itertools.pairwise(enumerate(list(module))):
            if _is_plain(conv, nn.Conv2d) and _is_plain(norm, nn.BatchNorm2d, SyncBatchNorm2d):
                module[index] = fuse_conv_bn_eval(conv, norm)  # type: ignore[arg-type, type-var]
                module[following] = nn.Identity()


def _is_plain(module: nn.Module, *classes: type[nn.Module]) -> bool:
    # Not subclasses: those of timm standardize weights, or have an activation of their own.
    return type(module) in classes
