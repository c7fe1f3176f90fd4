"""Random features of a Gaussian kernel, and the transform that makes them fast."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import scipy.linalg
import torch

from models.random_features import RandomFeatures, hadamard_matrix, hadamard_transform


@pytest.mark.parametrize("num_inputs", [1, 2, 50, 64, 1215])
def test_features_approximate_a_gaussian_kernel(num_inputs: int) -> None:
    """Rahimi and Recht 2007: the error falls with the root of their number."""
    input_BK = torch.randn(20, num_inputs, generator=torch.Generator().manual_seed(0))
    features_BR = RandomFeatures(num_inputs, 40_000)(input_BK)
    difference_BB = torch.cdist(input_BK, input_BK) / num_inputs**0.5
    kernel_BB = 2 * features_BR @ features_BR.T / 40_000
    torch.testing.assert_close(kernel_BB, (-difference_BB.square() / 4).exp(), rtol=0, atol=0.03)


def test_projections_are_the_same_in_all_networks() -> None:
    """A saved model does not have them."""
    features = RandomFeatures(50, 30)
    assert not features.state_dict() and not list(features.buffers())
    # The first numbers of NumPy's generator with seed 0, since 2006: 0, 1, 1, 0, 1, 1, 1, 1.
    assert features._sign_SGN[0, 0, :8].tolist() == [-1, 1, 1, -1, 1, 1, 1, 1]
    input_BK = torch.randn(4, 50)
    assert torch.equal(features(input_BK), RandomFeatures(50, 30)(input_BK))
    assert torch.equal(features(input_BK), copy.deepcopy(features)(input_BK))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(features(input_BK), RandomFeatures(50, 30)(input_BK))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 2), (4, 2), (8, 16), (32, 64)])
def test_hadamard_transform_equals_scipys(height: int, width: int) -> None:
    size = height * width
    expected = scipy.linalg.hadamard(size) / np.sqrt(size)
    np.testing.assert_allclose(hadamard_matrix(size), expected, atol=1e-6)
    values_BGN = torch.randn(2, 3, size, generator=torch.Generator().manual_seed(0))
    factors = hadamard_matrix(height), hadamard_matrix(width)
    transformed_BGN = hadamard_transform(values_BGN, *factors)
    np.testing.assert_allclose(transformed_BGN, values_BGN.double().numpy() @ expected, atol=1e-5)
    torch.testing.assert_close(hadamard_transform(transformed_BGN, *factors), values_BGN)
