"""How good drawn clips are, as a set, beside real ones: all on the embeddings that a classifier of real clips has of them.

Everything here is plain numpy on vectors `[shape=(N, K)]`; what the vectors are of is the caller's business.
"""

from __future__ import annotations

import numpy as np


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Fréchet distance of two sets of vectors taken as normal distributions (Dowson and Landau 1982; Heusel et al. 2017, FID).

    It is 0 for equal means and covariances, and grows with the number of axes and, for few vectors, with their want: compare
    sets of like size only.

    Args:
        first: vectors `[shape=(N, K)]`, at least two.
        second: vectors `[shape=(M, K)]`, at least two.

    Raises:
        ValueError: fewer than two vectors, another K, or a value that is not finite.
    """
    first, second = _checked(first, "first"), _checked(second, "second")
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"vectors must have one length, not {first.shape[1]} and {second.shape[1]}")
    means = first.mean(axis=0) - second.mean(axis=0)
    # tr((A B)^½) from the singular values of the product of factors of A and B: no root of a matrix, and never complex.
    factors = [(x - x.mean(axis=0)) / np.sqrt(len(x) - 1) for x in (first, second)]
    cross = np.linalg.svd(factors[0] @ factors[1].T, compute_uv=False).sum()
    spread = sum(float(np.square(factor).sum()) for factor in factors)
    return max(0.0, float(means @ means + spread - 2 * cross))


def density_and_coverage(real: np.ndarray, drawn: np.ndarray, neighbours: int = 5) -> tuple[float, float]:
    """Fidelity and diversity of drawn vectors (Naeem et al. 2020).

    Density: how many real neighbourhoods a drawn vector lies in, over how many are expected: near 1 for equal sets, 0 far away.
    Coverage in [0, 1]: the share of real vectors that have a drawn one in their neighbourhood. A neighbourhood reaches to the
    k-th nearest other real vector.

    Args:
        real: vectors `[shape=(N, K)]`.
        drawn: vectors `[shape=(M, K)]`.
        neighbours: k; lowered to N - 1 for small sets.

    Raises:
        ValueError: fewer than two vectors, or a value that is not finite.
    """
    real, drawn = _checked(real, "real"), _checked(drawn, "drawn")
    neighbours = min(neighbours, len(real) - 1)
    among = distances(real, real)
    np.fill_diagonal(among, np.inf)
    radius = np.sort(among, axis=1)[:, neighbours - 1]
    inside = distances(real, drawn) <= radius[:, None]
    return float(inside.sum() / (neighbours * len(drawn))), float(inside.any(axis=1).mean())


def nearest_neighbors(points: np.ndarray, among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each of `points` `[shape=(N, K)]` the number of its nearest in `among` `[shape=(M, K)]`, and the distance to it."""
    apart = distances(points, among)
    index = apart.argmin(axis=1)
    return index, apart[np.arange(len(points)), index]


def distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Euclidean distance of each pair `[shape=(N, M)]`."""
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    squares = np.square(first).sum(axis=1)[:, None] + np.square(second).sum(axis=1) - 2 * first @ second.T
    return np.sqrt(np.maximum(squares, 0.0))


def diversity(drawn: np.ndarray, labels: np.ndarray) -> float:
    """Mean deviation of a value within its class; in dB for spectrograms `[shape=(N, n_mels, num_frames)]`; classes of one clip don't count."""
    spreads = [
        float(drawn[labels == label].std(axis=0).mean())
        for label in np.unique(labels)
        if (labels == label).sum() > 1
    ]
    return float(np.mean(spreads)) if spreads else 0.0


def mean_pairwise_difference(mels: np.ndarray, labels: np.ndarray, unit: np.ndarray, pairs: int = 8) -> float:
    """Mean absolute difference of two clips of one class, over up to `pairs` partners of each; 0 where no class has two.

    Args:
        mels: spectrograms `[shape=(N, n_mels, num_frames)]`.
        labels: their classes `[shape=(N,)]`.
        unit: what counts as one in each mel band `[shape=(n_mels,)]`.
        pairs: partners of each clip, the next ones of its class.
    """
    apart = []
    for label in np.unique(labels):
        own = mels[labels == label].astype(np.float32) / unit[:, None]
        apart += [
            float(np.abs(own - np.roll(own, step, axis=0)).mean())
            for step in range(1, min(pairs, len(own) - 1) + 1)
        ]
    return float(np.mean(apart)) if apart else 0.0


def _checked(vectors: np.ndarray, name: str) -> np.ndarray:
    vectors = np.asarray(vectors, np.float64)
    if vectors.ndim != 2 or len(vectors) < 2:
        raise ValueError(f"{name} must have shape (N, K) with N of at least 2, not {vectors.shape}")
    if not np.isfinite(vectors).all():
        raise ValueError(f"{name} holds values that are not finite")
    return vectors
