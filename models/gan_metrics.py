"""Metrics of generated clips as a set, relative to real clips, in plain numpy.

Fréchet distance, density, coverage and nearest neighbors take vectors `[shape=(N, K)]`: embeddings of clips
by a classifier trained on real clips. Diversity and pairwise difference take spectrograms.

In shapes: N and R numbers of clips, K dimension of an embedding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

# Values of a matrix of distances that are computed at a time, and clips of a set above which a Fréchet
# distance is computed from triangular factors: 15,000 clips of 5,000 classes are compared with 20,000.
MAX_DISTANCES, MAX_DIRECT_CLIPS = 2**25, 4000
# Within-class diversity in dB below which a class has no variety: copies of a clip, encoded differently,
# reach half of it, recordings of any sound ten times as much.
MIN_DIVERSITY_DB = 0.5


def frechet_distance(
    first: np.ndarray, second: np.ndarray, second_weights: np.ndarray | None = None
) -> float:
    """Compute the Fréchet distance of two sets of vectors (Dowson and Landau 1982; Heusel et al. 2017, FID).

    Both sets are modeled as normal distributions; the distance is 0 for equal means and covariances. It is
    biased upwards in high dimensions and for small samples: compare sets of similar size only.

    Args:
        first: vectors `[shape=(N, K)]`, at least two.
        second: vectors `[shape=(R, K)]`, at least two.
        second_weights: relative weights of the second set `[shape=(R,)]`, above 0 (default: equal ones).

    Raises:
        ValueError: fewer than two vectors, different K, or a value that is not finite.
    """
    first, second = _check_vectors(first, "first"), _check_vectors(second, "second")
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"vectors must have the same dimension, not {first.shape[1]} and {second.shape[1]}")
    means, factors = zip(_mean_and_factor(first), _mean_and_factor(second, second_weights), strict=True)
    mean_difference = means[0] - means[1]
    # tr((A B)^½) is the sum of the singular values of the product of factors of A and B: no matrix square
    # root, which may be complex.
    traces = sum(float(np.square(factor).sum()) for factor in factors)
    # Their triangular factors have the same product of covariances, in K x K instead of N x R values.
    small = [np.asarray(np.linalg.qr(x, mode="r")) if len(x) > MAX_DIRECT_CLIPS else x for x in factors]
    cross = np.linalg.svd(small[0] @ small[1].T, compute_uv=False).sum()
    return max(0.0, float(mean_difference @ mean_difference + traces - 2 * cross))


def _mean_and_factor(vectors: np.ndarray, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean, and a factor F `[shape=(N, K)]` of the unbiased covariance, which is F^T F."""
    weights = np.ones(len(vectors)) if weights is None else np.asarray(weights, np.float64)
    shares = weights / weights.sum()
    mean = shares @ vectors
    factor = (vectors - mean) * np.sqrt(shares / (1 - np.square(shares).sum()))[:, None]
    return mean, factor


def density_and_coverage(real: np.ndarray, fake: np.ndarray, num_neighbors: int = 5) -> tuple[float, float]:
    """Compute density (fidelity) and coverage (diversity) of generated vectors (Naeem et al. 2020).

    The neighborhood of a real vector is the ball that reaches its k-th nearest other real vector. Density is
    the mean number of neighborhoods that contain a generated vector, divided by the expected number: near 1
    for equal distributions, 0 for distant ones. Coverage in [0, 1] is the fraction of neighborhoods that
    contain a generated vector.

    Args:
        real: vectors `[shape=(N, K)]`.
        fake: vectors `[shape=(R, K)]`.
        num_neighbors: k; at most N - 1 is used.

    Raises:
        ValueError: fewer than two vectors, or a value that is not finite.
    """
    real, fake = _check_vectors(real, "real"), _check_vectors(fake, "fake")
    num_neighbors = min(num_neighbors, len(real) - 1)
    contained, covered = 0, 0
    for part in _row_slices(len(real), max(len(real), len(fake))):
        real_distances = distances(real[part], real)
        own = np.arange(len(real))[part]
        real_distances[own - part.start, own] = np.inf
        radius = np.partition(real_distances, num_neighbors - 1, axis=1)[:, num_neighbors - 1]
        inside = distances(real[part], fake) <= radius[:, None]
        contained += int(inside.sum())
        covered += int(inside.any(axis=1).sum())
    return contained / (num_neighbors * len(fake)), covered / len(real)


def nearest_neighbors(queries: np.ndarray, references: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest of `references` `[shape=(R, K)]` for each of `queries` `[shape=(N, K)]`.

    Returns:
        Its index `[shape=(N,)]` and its Euclidean distance `[shape=(N,)]`.
    """
    parts = []
    for part in _row_slices(len(queries), len(references)):
        pairwise = distances(queries[part], references)
        index = pairwise.argmin(axis=1)
        parts.append((index, pairwise[np.arange(len(index)), index]))
    indices, nearest = zip(*parts, strict=True)
    return np.concatenate(indices), np.concatenate(nearest)


def distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Compute the Euclidean distance of every pair of vectors `[shape=(N, R)]`, float64."""
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    squares = np.square(first).sum(axis=1)[:, None] + np.square(second).sum(axis=1) - 2 * first @ second.T
    return np.sqrt(np.maximum(squares, 0.0))


def _row_slices(rows: int, columns: int) -> Iterator[slice]:
    """Yield slices of the rows of a matrix whose parts fit into memory; usually one slice of all rows."""
    size = max(1, MAX_DISTANCES // max(1, columns))
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def class_diversity(mels: np.ndarray, labels: np.ndarray) -> dict[int, float]:
    """Compute the mean standard deviation of a spectrogram value within each class, in dB.

    Divided by N - 1, so that few clips of a class can be compared with many.

    Args:
        mels: spectrograms in dB `[shape=(N, n_mels, num_frames)]`; float16 is converted class by class.
        labels: their classes `[shape=(N,)]`; classes with a single clip are left out.
    """
    dtype = np.result_type(mels, np.float32)
    return {
        int(label): float(mels[labels == label].astype(dtype).std(axis=0, ddof=1).mean())
        for label in np.unique(labels)
        if (labels == label).sum() > 1
    }


def relative_diversity(generated: Mapping[int, float], real: Mapping[int, float]) -> float | None:
    """Return the mean diversity of generated clips as a fraction of that of real ones.

    Both are results of `class_diversity`. Classes whose real clips have no variety are left out; None if no
    class is left: a fraction of nearly nothing means nothing.
    """
    classes = [label for label, value in real.items() if value >= MIN_DIVERSITY_DB and label in generated]
    if not classes:
        return None
    means = [float(np.mean([diversity[label] for label in classes])) for diversity in (generated, real)]
    return means[0] / means[1]


def comparable_classes(
    train_diversity: Mapping[int, float], held_out_mels: np.ndarray, held_out_labels: np.ndarray
) -> np.ndarray:
    """Return the classes for which generated clips can be compared with held-out ones, as a set of clips.

    Their training clips have variety, as do their held-out clips if they are several.

    Args:
        train_diversity: result of `class_diversity` for the training clips.
        held_out_mels: spectrograms in dB `[shape=(N, n_mels, num_frames)]`.
        held_out_labels: their classes `[shape=(N,)]`.
    """
    held_out_diversity = class_diversity(held_out_mels, held_out_labels)
    classes = [
        label
        for label in np.unique(held_out_labels).tolist()
        if train_diversity.get(label, 0.0) >= MIN_DIVERSITY_DB
        and held_out_diversity.get(label, np.inf) >= MIN_DIVERSITY_DB
    ]
    return np.array(classes, int)


def class_differences(
    mels: np.ndarray, labels: np.ndarray, std: np.ndarray, num_pairs: int = 8
) -> dict[int, float]:
    """Compute the mean absolute difference of two clips of each class.

    Args:
        mels: spectrograms in dB `[shape=(N, n_mels, num_frames)]`.
        labels: their classes `[shape=(N,)]`; classes with a single clip are left out.
        std: standard deviation of each mel band in dB, the unit of the result `[shape=(n_mels,)]`.
        num_pairs: maximum number of other clips of its class that each clip is compared to.
    """
    differences = {}
    for label in np.unique(labels):
        class_mels = mels[labels == label].astype(np.float32) / std[:, None]
        pairs = [
            float(np.abs(class_mels - np.roll(class_mels, offset, axis=0)).mean())
            for offset in range(1, min(num_pairs, len(class_mels) - 1) + 1)
        ]
        if pairs:
            differences[int(label)] = float(np.mean(pairs))
    return differences


def _check_vectors(vectors: np.ndarray, name: str) -> np.ndarray:
    vectors = np.asarray(vectors, np.float64)
    if vectors.ndim != 2 or len(vectors) < 2:
        raise ValueError(f"{name} must have shape (N, K) with N of at least 2, not {vectors.shape}")
    if not np.isfinite(vectors).all():
        raise ValueError(f"{name} contains values that are not finite")
    return vectors
