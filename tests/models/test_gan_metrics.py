"""Metrics of sets of vectors against the textbook formula, scipy and values by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.linalg
from scipy.spatial.distance import cdist

from models import gan_metrics
from models.gan_metrics import (
    class_differences,
    class_diversity,
    comparable_classes,
    density_and_coverage,
    distances,
    frechet_distance,
    nearest_neighbors,
    relative_diversity,
)


def random_vectors(seed: int, count: int, dim: int) -> np.ndarray:
    """Sample correlated vectors with mean and covariance of the seed `[shape=(count, dim)]`."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, dim)) @ rng.normal(size=(dim, dim)) + rng.normal(size=dim)


def textbook_frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    a, b = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    root = scipy.linalg.sqrtm(a @ b)
    return float(np.square(first.mean(axis=0) - second.mean(axis=0)).sum() + np.trace(a + b - 2 * root.real))


@pytest.mark.parametrize(
    ("first", "second", "dim"), [(40, 40, 3), (200, 31, 8), (20, 300, 2), (500, 400, 32)]
)
def test_frechet_distance_matches_textbook_formula(first: int, second: int, dim: int) -> None:
    for seed in range(3):
        a, b = random_vectors(seed, first, dim), random_vectors(seed + 100, second, dim)
        assert frechet_distance(a, b) == pytest.approx(textbook_frechet_distance(a, b), rel=1e-8)


def test_weights_are_those_of_repeated_vectors() -> None:
    a, b = random_vectors(0, 50, 3), random_vectors(1, 40, 3)
    weights = np.random.default_rng(2).uniform(0.5, 2, size=len(b))
    mean, covariance = np.average(b, axis=0, weights=weights), np.cov(b, rowvar=False, aweights=weights)
    root = scipy.linalg.sqrtm(np.cov(a, rowvar=False) @ covariance)
    traces = np.trace(np.cov(a, rowvar=False) + covariance - 2 * root.real)
    expected = np.square(a.mean(axis=0) - mean).sum() + traces
    assert frechet_distance(a, b, weights) == pytest.approx(float(expected), rel=1e-8)
    assert frechet_distance(a, b, np.full(len(b), 3.0)) == pytest.approx(frechet_distance(a, b), rel=1e-12)


def test_large_sets_have_the_same_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """In parts of the matrix of distances, and from triangular factors."""
    a, b = random_vectors(0, 90, 4), random_vectors(1, 70, 4)
    expected = frechet_distance(a, b), density_and_coverage(a, b), nearest_neighbors(a, b)
    monkeypatch.setattr(gan_metrics, "MAX_DISTANCES", 500)
    monkeypatch.setattr(gan_metrics, "MAX_DIRECT_CLIPS", 80)
    assert frechet_distance(a, b) == pytest.approx(expected[0], rel=1e-9)
    assert density_and_coverage(a, b) == expected[1]
    for actual, values in zip(nearest_neighbors(a, b), expected[2], strict=True):
        np.testing.assert_allclose(actual, values)


def test_frechet_distance_in_one_dimension_by_hand() -> None:
    a, b = np.array([[1.0], [3.0]]), np.array([[10.0], [14.0], [18.0]])  # means 2 and 14, variances 2 and 16
    assert frechet_distance(a, b) == pytest.approx(12**2 + (4 - np.sqrt(2)) ** 2)


def test_frechet_distance_of_translation_and_scaling() -> None:
    a = random_vectors(0, 50, 4)
    assert frechet_distance(a, a + np.array([1, -2, 0, 2])) == pytest.approx(9.0)
    # Scaling by 3 increases the standard deviation of every axis by twice its value.
    assert frechet_distance(a - a.mean(axis=0), 3 * (a - a.mean(axis=0))) == pytest.approx(
        4 * a.var(axis=0, ddof=1).sum()
    )


def test_frechet_distance_of_equal_sets_is_zero() -> None:
    for seed in range(20):
        a = random_vectors(seed, 30, 6)
        assert 0 <= frechet_distance(a, a[::-1]) < 1e-9
    assert frechet_distance(a, random_vectors(99, 30, 6)) > 1


def test_frechet_distance_is_symmetric() -> None:
    a, b = random_vectors(0, 50, 5), random_vectors(1, 20, 5)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-12)


@pytest.mark.parametrize("counts", [(7, 5), (2, 9), (6, 100)])
def test_frechet_distance_with_fewer_vectors_than_dimensions(counts: tuple[int, int]) -> None:
    # An isometry into more dimensions changes no distance.
    a, b = (random_vectors(seed, count, 3) for seed, count in enumerate(counts))
    isometry = np.linalg.qr(np.random.default_rng(2).normal(size=(64, 3)))[0].T
    assert frechet_distance(a @ isometry, b @ isometry) == pytest.approx(frechet_distance(a, b), rel=1e-9)
    # Singular covariances: matrix square root from the eigenvalues of the product, most of which are zero.
    a, b = (random_vectors(seed, count, 40) for seed, count in enumerate(counts))
    covariances = [np.cov(x, rowvar=False) for x in (a, b)]
    roots = np.sqrt(np.maximum(np.linalg.eigvals(covariances[0] @ covariances[1]).real, 0))
    expected = (
        np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
        + np.trace(covariances[0] + covariances[1])
        - 2 * roots.sum()
    )
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-5)


def test_frechet_distance_of_float32_keeps_precision() -> None:
    a, b = random_vectors(0, 100, 5) + 1000, random_vectors(1, 100, 5) + 1000
    assert frechet_distance(a.astype(np.float32), b.astype(np.float32)) == pytest.approx(
        frechet_distance(a, b), rel=1e-3
    )


@pytest.mark.parametrize(
    ("metric", "names"), [(frechet_distance, ("first", "second")), (density_and_coverage, ("real", "fake"))]
)
@pytest.mark.parametrize(
    ("invalid", "message"),
    [
        (np.zeros((1, 3)), r"N of at least 2, not \(1, 3\)"),
        (np.zeros((0, 3)), r"not \(0, 3\)"),
        (np.zeros(3), r"must have shape \(N, K\).* not \(3,\)"),
        (np.zeros((4, 3, 2)), r"not \(4, 3, 2\)"),
        (np.array([[0.0, 0.0, 0.0], [0.0, np.nan, 0.0]]), "not finite"),
        (np.array([[0.0, 0.0, np.inf], [0.0, 0.0, 0.0]]), "not finite"),
    ],
)
def test_invalid_vectors_raise_error_with_argument_name(
    metric: Callable[[np.ndarray, np.ndarray], object],
    names: tuple[str, str],
    invalid: np.ndarray,
    message: str,
) -> None:
    valid = random_vectors(0, 5, 3)
    for arguments, name in (((invalid, valid), names[0]), ((valid, invalid), names[1])):
        with pytest.raises(ValueError, match=f"^{name} .*{message}"):
            metric(*arguments)


def test_vectors_of_different_dimensions_raise() -> None:
    with pytest.raises(ValueError, match="same dimension, not 3 and 4"):
        frechet_distance(random_vectors(0, 5, 3), random_vectors(0, 5, 4))


def test_density_and_coverage_by_hand() -> None:
    real = np.array([[0.0], [1.0], [3.0], [7.0]])
    # Radii (nearest other): 1, 1, 2, 4. The first fake is in the neighborhoods of 0 and 1, the other in none.
    assert density_and_coverage(real, np.array([[0.5], [20.0]]), 1) == (2 / 2, 2 / 4)
    # Radii (second nearest other): 3, 2, 3, 6.
    assert density_and_coverage(real, np.array([[0.5], [20.0]]), 2) == (3 / (2 * 2), 3 / 4)
    # The boundary is part of the neighborhood: 2 has distance 1 from 1.
    assert density_and_coverage(real, np.array([[2.0], [2.0], [20.0]]), 1) == (4 / 3, 2 / 4)


def test_density_and_coverage_match_paper_formulas() -> None:
    real, fake, k = random_vectors(0, 60, 4), random_vectors(1, 45, 4), 3
    # Index 0 of the sorted distances is the point itself.
    radius = [sorted(np.linalg.norm(real - point, axis=1))[k] for point in real]
    inside = np.array(
        [
            [np.linalg.norm(point - other) <= r for other in fake]
            for point, r in zip(real, radius, strict=True)
        ]
    )
    assert 0.1 < inside.any(axis=1).mean() < 0.9
    assert density_and_coverage(real, fake, k) == pytest.approx(
        (inside.sum() / k / 45, inside.any(axis=1).mean())
    )


def test_density_and_coverage_of_equal_and_distant_distributions() -> None:
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(2, 500, 4))
    density, coverage = density_and_coverage(real, fake)
    assert density == pytest.approx(1.0, abs=0.1) and coverage > 0.9
    assert density_and_coverage(real, fake + 100) == (0.0, 0.0)
    # Each copy is in its own neighborhood and in five others on average.
    assert density_and_coverage(real, real.copy(), 5) == pytest.approx((6 / 5, 1.0), abs=0.01)


def test_mode_collapse_has_high_density_low_coverage() -> None:
    rng = np.random.default_rng(0)
    real = rng.normal(size=(500, 4))
    density, coverage = density_and_coverage(real, 0.01 * rng.normal(size=(500, 4)))
    assert density > 1 and coverage < 0.1


def test_duplicates_change_neither_density_nor_coverage() -> None:
    real, fake = random_vectors(0, 50, 3), random_vectors(1, 40, 3)
    assert density_and_coverage(real, np.concatenate([fake, fake])) == density_and_coverage(real, fake)


def test_num_neighbors_is_limited_by_real_vectors() -> None:
    real, fake = random_vectors(0, 4, 3), random_vectors(1, 40, 3)
    assert density_and_coverage(real, fake, 5) == density_and_coverage(real, fake, 3)
    assert density_and_coverage(real[:2], real[:2], 5) == (2.0, 1.0)


@pytest.mark.parametrize(("first", "second", "dim"), [(5, 9, 3), (1, 1, 1), (30, 20, 256)])
def test_distances_match_scipy(first: int, second: int, dim: int) -> None:
    a, b = random_vectors(0, first, dim), random_vectors(1, second, dim)
    np.testing.assert_allclose(distances(a, b), cdist(a, b), rtol=1e-9)
    np.testing.assert_allclose(distances(a, a), cdist(a, a), rtol=1e-9, atol=1e-6 * np.abs(a).max())
    from_float32 = distances(a.astype(np.float32), b.astype(np.float32))
    assert from_float32.dtype == np.float64
    np.testing.assert_allclose(from_float32, cdist(a, b), rtol=1e-5)


def test_nearest_neighbors_returns_indices_and_distances() -> None:
    index, distance = nearest_neighbors(
        np.array([[0.0, 0.0], [10.0, 1.0]]), np.array([[10.0, 0.0], [3.0, 4.0], [-6.0, 0.0]])
    )
    assert index.tolist() == [1, 0]
    np.testing.assert_allclose(distance, [5.0, 1.0])
    queries, references = random_vectors(0, 40, 6), random_vectors(1, 70, 6)
    index, distance = nearest_neighbors(queries, references)
    np.testing.assert_array_equal(index, cdist(queries, references).argmin(axis=1))
    np.testing.assert_allclose(distance, cdist(queries, references).min(axis=1))


def test_nearest_neighbor_of_reference_is_itself() -> None:
    points = random_vectors(0, 40, 6)
    order = np.random.default_rng(0).permutation(40)
    index, distance = nearest_neighbors(points[order], points)
    assert index.tolist() == order.tolist() and (distance < 1e-6).all()


@pytest.mark.parametrize("count", [2, 4, 32])
def test_diversity_of_few_clips_is_that_of_many(count: int) -> None:
    mels = np.random.default_rng(0).normal(0, 3, (count, 64, 100))
    expected = {2: (2 / np.pi) ** 0.5, 4: 0.9213, 32: 0.992}[count]  # mean standard deviation of N values
    assert class_diversity(mels, np.zeros(count, int))[0] == pytest.approx(3 * expected, rel=0.02)


def test_diversity_is_measured_in_classes_with_two_clips() -> None:
    mels = np.array([[[0.0, 0.0]], [[2.0, 2.0]], [[5.0, 1.0]], [[6.0, 1.0]], [[9.0, 9.0]]])
    labels = np.array([0, 0, 1, 1, 2])
    assert class_diversity(mels, labels) == {0: pytest.approx(2**0.5), 1: pytest.approx(0.5 * 0.5**0.5)}


def test_copies_in_classes_have_no_diversity() -> None:
    mels = np.repeat(np.random.default_rng(0).normal(size=(3, 4, 5)), 4, axis=0)
    labels = np.repeat(np.arange(3), 4)
    assert class_diversity(mels, labels) == pytest.approx(dict.fromkeys(range(3), 0.0), abs=1e-9)
    noise = np.random.default_rng(1).normal(size=mels.shape)
    assert min(class_diversity(mels + noise, labels).values()) > 0.5


@pytest.mark.parametrize(
    ("generated", "real", "expected"),
    [
        ({0: 2.0, 1: 4.0}, {0: 4.0, 1: 8.0}, 0.5),
        # Silence: without it, 9 dB in 0.01 dB would be 90,000 %.
        ({0: 9.0, 1: 4.0}, {0: 0.01, 1: 8.0}, 0.5),
        ({0: 9.0, 1: 4.0}, {0: 0.0, 1: 0.0}, None),
        ({0: 9.0}, {}, None),
        # A class with a single real clip.
        ({0: 9.0, 1: 4.0}, {1: 8.0}, 0.5),
    ],
    ids=["varied", "one silent", "all silent", "one clip each", "one clip in a class"],
)
def test_relative_diversity_needs_variety_of_real_clips(
    generated: dict[int, float], real: dict[int, float], expected: float | None
) -> None:
    assert relative_diversity(generated, real) == expected


def test_comparable_classes_have_variety_on_both_sides() -> None:
    rng = np.random.default_rng(0)
    mels, labels = 5 * rng.normal(size=(8, 4, 5)), np.repeat(np.arange(4), 2)
    mels[2:4] = mels[2]  # class 1: held-out copies
    train_diversity = {0: 5.0, 1: 5.0, 2: 0.0}  # class 2: training copies, class 3: one training clip
    assert comparable_classes(train_diversity, mels, labels).tolist() == [0]
    # A single held-out clip has no diversity of its own.
    assert comparable_classes(train_diversity, mels[1:3], labels[1:3]).tolist() == [0, 1]
    assert comparable_classes({}, mels, labels).tolist() == []


def test_class_differences_by_hand() -> None:
    mels = np.array([[[0.0]], [[4.0]], [[10.0]], [[100.0]], [[7.0]], [[8.0]]])
    # In units of 2: class 0 has the pairs (0, 4), (4, 10) and (10, 0), class 2 has (7, 8), class 1 has none.
    differences = class_differences(mels, np.array([0, 0, 0, 1, 2, 2]), np.array([2.0]))
    assert differences == pytest.approx({0: (4 + 6 + 10) / 3 / 2, 2: 1 / 2})


def test_class_differences_of_few_pairs_approximate_all() -> None:
    mels = np.random.default_rng(0).standard_normal((200, 3, 4))
    labels, std = np.arange(200) % 2, np.ones(3)
    few, all_pairs = [class_differences(mels, labels, std, num_pairs=number) for number in (4, 99)]
    assert few == pytest.approx(all_pairs, rel=0.05)
