"""Normalization layers: batch norm over all workers, and group norm that keeps the memory format.

Shape suffixes: B batch (this worker's rows), K channels, H and W height and width of a feature map.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from models.settings import NormName

# The sums of batch norm run over these axes.
BATCH_AXES = (0, 2, 3)


def make_norm(name: NormName, channels: int) -> nn.Module:
    """Return the normalization layer of feature maps with a number of channels."""
    if name == "group":
        return GroupNorm(_num_groups(channels), channels)
    return SyncBatchNorm2d(channels) if name == "sync" else nn.BatchNorm2d(channels)


def has_several_workers() -> bool:
    """Return whether this process is one of several in a process group."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


class SyncBatchNorm2d(nn.BatchNorm2d):
    """Batch norm whose statistics in training are those of the rows of all workers.

    Equal to `nn.BatchNorm2d` on the whole batch, also if workers have different numbers of rows, and with the
    same state dict; for a single worker and in evaluation it is that layer. Unlike `nn.SyncBatchNorm` it runs
    on CPUs too, and never waits for the GPU. Every worker must take part in each forward and backward pass:
    each of them contains a collective.
    """

    synchronizes = True
    """Whether workers have different rows; False while all compute the same."""

    def forward(self, x_BKHW: Tensor) -> Tensor:
        """Normalize feature maps `[shape=(B, K, H, W)]`; keeps the memory format."""
        if not (self.training and self.synchronizes and has_several_workers()):
            return super().forward(x_BKHW)
        return self._normalize_globally(x_BKHW)

    # Its collectives run between the compiled parts of the network. As `torch.compiler.disable`, but torch's
    # compiler, whose import takes longer than torch's, is imported by the first call only.
    @torch._disable_dynamo
    def _normalize_globally(self, x_BKHW: Tensor) -> Tensor:
        y_BKHW, mean_K, var_K, count = _GlobalBatchNorm.apply(x_BKHW, self.weight, self.bias, self.eps)
        with torch.no_grad():
            # As batch norm does: the running variance is the unbiased one.
            self.running_mean.lerp_(mean_K, self.momentum)  # type: ignore[union-attr, arg-type]
            self.running_var.lerp_(var_K * (count / (count - 1)), self.momentum)  # type: ignore[union-attr, arg-type]
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        return y_BKHW


class _GlobalBatchNorm(torch.autograd.Function):
    """Batch norm with statistics over all workers, in float32, with one collective in each direction.

    The gradient is that of the sum of the workers' losses, which DDP's average of gradients requires.
    """

    @staticmethod
    def forward(
        ctx: Any, x_BKHW: Tensor, weight_K: Tensor, bias_K: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the normalized feature maps, and mean, biased variance and number of values per channel."""
        mean_K, var_K, count = _global_statistics(x_BKHW)
        inv_std_K = (var_K + eps).rsqrt()
        ctx.save_for_backward(x_BKHW, weight_K, mean_K, inv_std_K, count)
        ctx.mark_non_differentiable(mean_K, var_K, count)
        scale_K = weight_K * inv_std_K
        y_BKHW = torch.addcmul(_per_channel(bias_K - mean_K * scale_K), x_BKHW, _per_channel(scale_K))
        return y_BKHW.to(x_BKHW.dtype), mean_K, var_K, count

    @staticmethod
    def backward(ctx: Any, grad_BKHW: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Return the gradients of feature maps, weight and bias."""
        x_BKHW, weight_K, mean_K, inv_std_K, count = ctx.saved_tensors
        grad = grad_BKHW.float()
        normalized_BKHW = (x_BKHW - _per_channel(mean_K)) * _per_channel(inv_std_K)
        bias_grad_K = grad.sum(BATCH_AXES)
        weight_grad_K = (grad * normalized_BKHW).sum(BATCH_AXES)
        sums = torch.cat([bias_grad_K, weight_grad_K])
        dist.all_reduce(sums)
        mean_grad_K, mean_product_K = (sums / count).chunk(2)
        x_grad = (
            grad - _per_channel(mean_grad_K) - normalized_BKHW * _per_channel(mean_product_K)
        ) * _per_channel(weight_K * inv_std_K)
        return x_grad.to(x_BKHW.dtype), weight_grad_K, bias_grad_K, None


def _global_statistics(x_BKHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean, biased variance and number of values of each channel over all workers, in float32.

    Variances of the workers are combined with the differences of their means (Chan et al. 1979): unlike with
    a sum of squares, no digits are lost where the mean is large.
    """
    var_K, mean_K = torch.var_mean(x_BKHW.float(), BATCH_AXES, correction=0)
    count = mean_K.new_full((1,), x_BKHW.numel() // x_BKHW.shape[1])
    local = torch.cat([mean_K, var_K, count])
    gathered = local.new_empty(dist.get_world_size() * len(local))
    dist.all_gather_into_tensor(gathered, local)
    channels = len(mean_K)
    means, variances, counts = gathered.view(-1, len(local)).split([channels, channels, 1], dim=1)
    total = counts.sum()
    mean_K = (counts * means).sum(0) / total
    return mean_K, (counts * (variances + (means - mean_K).square())).sum(0) / total, total


class GroupNorm(nn.GroupNorm):
    """Group norm that keeps channels_last on all devices.

    On GPUs torch returns NCHW: every later layer of the block, and its gradient, would convert again.
    """

    def forward(self, x_BKHW: Tensor) -> Tensor:
        """Normalize feature maps `[shape=(B, K, H, W)]`."""
        memory_format = (
            torch.channels_last
            if x_BKHW.is_contiguous(memory_format=torch.channels_last)
            else torch.contiguous_format
        )
        return super().forward(x_BKHW).contiguous(memory_format=memory_format)


def _per_channel(value_K: Tensor) -> Tensor:
    return value_K[:, None, None]


def _num_groups(channels: int) -> int:
    """Return the largest divisor of `channels` up to 8."""
    return max(n for n in range(1, 9) if channels % n == 0)
