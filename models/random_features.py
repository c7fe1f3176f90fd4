"""Random features of a Gaussian kernel, by fast structured projections (Yu et al. 2016).

Shape suffixes: B batch, K inputs, R features, S steps, G groups of N features, H and W factors of N.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from models.precision import float32_only

# Of the kernel, in standard deviations of an input.
KERNEL_WIDTH = math.sqrt(2)
# Random signs and Hadamard transforms, one after the other: after three, directions are as good as random.
NUM_STEPS = 3
# Projections of fewer values would be far from normally distributed.
MIN_SIZE = 64


class RandomFeatures(nn.Module):
    """Cosines of random projections, whose products approximate a Gaussian kernel (Rahimi and Recht 2007).

    The mean product of the features of two inputs is half their kernel exp(-d² / (2 w²)), where d is the root
    mean square of their differences and w `KERNEL_WIDTH`. Instead of a random matrix, inputs are multiplied
    by random signs and transformed by Hadamard's matrix, several times, in less time and without a matrix to
    store or to export. Signs and phases are the same in all networks, neither weights nor buffers, which
    would be saved, averaged and sent to all workers.
    """

    def __init__(self, num_inputs: int, num_features: int):
        super().__init__()
        self.num_inputs, self.num_features = num_inputs, num_features
        self._sign_SGN, self._phase_R = _random_signs_and_phases(num_inputs, num_features)
        self._left_HH, self._right_WW = map(hadamard_matrix, _factors(self._sign_SGN.shape[2]))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the constants as well."""
        for name in ("_sign_SGN", "_phase_R", "_left_HH", "_right_WW"):
            setattr(self, name, fn(getattr(self, name)))
        return super()._apply(fn, recurse)

    def forward(self, input_BK: Tensor) -> Tensor:
        """Return features in [-1, 1], float32 `[shape=(B, R)]`."""
        with float32_only(input_BK.device):
            size = self._sign_SGN.shape[2]
            values_BGN = nn.functional.pad(input_BK.float(), (0, size - self.num_inputs))[:, None]
            for sign_GN in self._sign_SGN:
                values_BGN = hadamard_transform(values_BGN * sign_GN, self._left_HH, self._right_WW)
            # Each transform keeps the length, so that a projection has 1 / N of the sum of squares.
            scale = math.sqrt(size / self.num_inputs) / KERNEL_WIDTH
            projection_BR = scale * values_BGN.flatten(1)[:, : self.num_features]
            return torch.cos(projection_BR + self._phase_R)


def hadamard_transform(value_BGN: Tensor, left_HH: Tensor, right_WW: Tensor) -> Tensor:
    """Return the product of the last axis with Hadamard's matrix of its size, a power of two.

    As the matrix is the Kronecker product of two smaller ones, products with these do.
    """
    shape = len(left_HH), len(right_WW)
    return (left_HH @ value_BGN.unflatten(-1, shape) @ right_WW).flatten(-2)


def _factors(size: int) -> tuple[int, int]:
    """Return two powers of two, as equal as possible, whose product is `size`, which is one as well."""
    height = 1 << (size.bit_length() - 1) // 2
    return height, size // height


def hadamard_matrix(size: int) -> Tensor:
    """Return Hadamard's matrix for a power of two, symmetric and orthogonal `[shape=(size, size)]`."""
    matrix = torch.ones(1, 1)
    while len(matrix) < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix / math.sqrt(size)


@cache
def _random_signs_and_phases(num_inputs: int, num_features: int) -> tuple[Tensor, Tensor]:
    """Return signs `[shape=(S, G, N)]` and phases `[shape=(R,)]`, float32; always the same."""
    size = max(1 << (num_inputs - 1).bit_length(), MIN_SIZE)
    # Of NumPy's generators, it is the one whose numbers are guaranteed never to change.
    random = np.random.RandomState(0)
    sign_SGN = 2 * random.randint(0, 2, (NUM_STEPS, math.ceil(num_features / size), size)) - 1
    phase_R = random.uniform(0, 2 * np.pi, num_features)
    return torch.from_numpy(sign_SGN.astype(np.float32)), torch.from_numpy(phase_R.astype(np.float32))
