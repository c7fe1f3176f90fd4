"""Figures of sets of vectors against the textbook, scipy and sums by hand."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from scipy.spatial.distance import cdist

from models.gan_metrics import (
    density_and_coverage,
    distances,
    diversity,
    frechet_distance,
    mean_pairwise_difference,
    nearest_neighbors,
)


def vectors(seed: int, count: int, axes: int) -> np.ndarray:
    """Correlated, not centred, each set with a spread of its own."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, axes)) @ rng.normal(size=(axes, axes)) + rng.normal(size=axes)


def textbook(first: np.ndarray, second: np.ndarray) -> float:
    a, b = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    root = scipy.linalg.sqrtm(a @ b)
    return float(np.square(first.mean(axis=0) - second.mean(axis=0)).sum() + np.trace(a + b - 2 * root.real))


@pytest.mark.parametrize(
    ("first", "second", "axes"), [(40, 40, 3), (200, 31, 8), (20, 300, 2), (500, 400, 32)]
)
def test_frechet_distance_is_the_textbook_formula(first: int, second: int, axes: int) -> None:
    for seed in range(3):
        a, b = vectors(seed, first, axes), vectors(seed + 100, second, axes)
        assert frechet_distance(a, b) == pytest.approx(textbook(a, b), rel=1e-8)


def test_frechet_distance_on_a_line_is_that_of_means_and_deviations() -> None:
    a, b = np.array([[1.0], [3.0]]), np.array([[10.0], [14.0], [18.0]])  # means 2 and 14, variances 2 and 16
    assert frechet_distance(a, b) == pytest.approx(12**2 + (4 - np.sqrt(2)) ** 2)


def test_frechet_distance_of_a_shift_is_its_squared_length() -> None:
    a = vectors(0, 50, 4)
    assert frechet_distance(a, a + np.array([1, -2, 0, 2])) == pytest.approx(9.0)
    # The spread counts beside it: three times as wide is twice the deviation further along each axis.
    assert frechet_distance(a - a.mean(axis=0), 3 * (a - a.mean(axis=0))) == pytest.approx(
        4 * a.var(axis=0, ddof=1).sum()
    )


def test_frechet_distance_is_zero_for_equal_sets_in_any_order_and_never_below() -> None:
    for seed in range(20):
        a = vectors(seed, 30, 6)
        assert 0 <= frechet_distance(a, a[::-1]) < 1e-9
    assert frechet_distance(a, vectors(99, 30, 6)) > 1


def test_frechet_distance_is_symmetric() -> None:
    a, b = vectors(0, 50, 5), vectors(1, 20, 5)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-12)


@pytest.mark.parametrize("counts", [(7, 5), (2, 9), (6, 100)])
def test_frechet_distance_works_with_fewer_vectors_than_axes(counts: tuple[int, int]) -> None:
    """A turn into more axes moves nothing apart."""
    a, b = (vectors(seed, count, 3) for seed, count in enumerate(counts))
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(64, 3)))[0].T
    assert frechet_distance(a @ turn, b @ turn) == pytest.approx(frechet_distance(a, b), rel=1e-9)
    # Full of noise on all axes: the roots of the products' eigenvalues, of which most are zero.
    a, b = (vectors(seed, count, 40) for seed, count in enumerate(counts))
    covariances = [np.cov(x, rowvar=False) for x in (a, b)]
    roots = np.sqrt(np.maximum(np.linalg.eigvals(covariances[0] @ covariances[1]).real, 0))
    want = (
        np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
        + np.trace(covariances[0] + covariances[1])
        - 2 * roots.sum()
    )
    assert frechet_distance(a, b) == pytest.approx(want, rel=1e-5)


def test_frechet_distance_of_single_precision_does_not_lose_it() -> None:
    a, b = vectors(0, 100, 5) + 1000, vectors(1, 100, 5) + 1000
    assert frechet_distance(a.astype(np.float32), b.astype(np.float32)) == pytest.approx(
        frechet_distance(a, b), rel=1e-3
    )


@pytest.mark.parametrize("measure", [frechet_distance, density_and_coverage])
@pytest.mark.parametrize(
    ("spoilt", "words"),
    [
        (np.zeros((1, 3)), r"N of at least 2, not \(1, 3\)"),
        (np.zeros((0, 3)), r"not \(0, 3\)"),
        (np.zeros(3), r"must have shape \(N, K\).* not \(3,\)"),
        (np.zeros((4, 3, 2)), r"not \(4, 3, 2\)"),
        (np.array([[0.0, 0.0, 0.0], [0.0, np.nan, 0.0]]), "not finite"),
        (np.array([[0.0, 0.0, np.inf], [0.0, 0.0, 0.0]]), "not finite"),
    ],
)
def test_what_no_figure_can_be_had_of_is_refused_by_its_name(measure, spoilt: np.ndarray, words: str) -> None:  # type: ignore[no-untyped-def]
    good = vectors(0, 5, 3)
    names = ("first", "second") if measure is frechet_distance else ("real", "drawn")
    for pair, name in (((spoilt, good), names[0]), ((good, spoilt), names[1])):
        with pytest.raises(ValueError, match=f"^{name} .*{words}"):
            measure(*pair)


def test_vectors_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="one length, not 3 and 4"):
        frechet_distance(vectors(0, 5, 3), vectors(0, 5, 4))


def test_density_and_coverage_by_hand() -> None:
    real = np.array([[0.0], [1.0], [3.0], [7.0]])
    # To the nearest other: 1, 1, 2, 4. The first drawn lies within that of 0 and of 1, the second nowhere.
    assert density_and_coverage(real, np.array([[0.5], [20.0]]), 1) == (2 / 2, 2 / 4)
    # To the second: 3, 2, 3, 6.
    assert density_and_coverage(real, np.array([[0.5], [20.0]]), 2) == (3 / (2 * 2), 3 / 4)
    # The edge belongs to the neighbourhood: 2 is 1 from 1.
    assert density_and_coverage(real, np.array([[2.0], [2.0], [20.0]]), 1) == (4 / 3, 2 / 4)


def test_density_and_coverage_are_the_papers_formulas() -> None:
    real, drawn, k = vectors(0, 60, 4), vectors(1, 45, 4), 3
    radius = [
        sorted(np.linalg.norm(real - point, axis=1))[k] for point in real
    ]  # the first is the point itself
    inside = np.array(
        [
            [np.linalg.norm(point - other) <= r for other in drawn]
            for point, r in zip(real, radius, strict=True)
        ]
    )
    assert 0.1 < inside.any(axis=1).mean() < 0.9
    assert density_and_coverage(real, drawn, k) == pytest.approx(
        (inside.sum() / k / 45, inside.any(axis=1).mean())
    )


def test_equal_sets_have_density_and_coverage_near_one_and_far_ones_none() -> None:
    rng = np.random.default_rng(0)
    real, drawn = rng.normal(size=(2, 500, 4))
    density, coverage = density_and_coverage(real, drawn)
    assert density == pytest.approx(1.0, abs=0.1) and coverage > 0.9
    assert density_and_coverage(real, drawn + 100) == (0.0, 0.0)
    # Beside its five neighbours each finds itself.
    assert density_and_coverage(real, real.copy(), 5) == pytest.approx((6 / 5, 1.0), abs=0.01)


def test_a_collapsed_set_covers_little_and_is_dense_all_the_same() -> None:
    rng = np.random.default_rng(0)
    real = rng.normal(size=(500, 4))
    density, coverage = density_and_coverage(real, 0.01 * rng.normal(size=(500, 4)))
    assert density > 1 and coverage < 0.1


def test_drawing_everything_twice_changes_neither_density_nor_coverage() -> None:
    real, drawn = vectors(0, 50, 3), vectors(1, 40, 3)
    assert density_and_coverage(real, np.concatenate([drawn, drawn])) == density_and_coverage(real, drawn)


def test_few_real_vectors_have_as_many_neighbours_as_there_are() -> None:
    real, drawn = vectors(0, 4, 3), vectors(1, 40, 3)
    assert density_and_coverage(real, drawn, 5) == density_and_coverage(real, drawn, 3)
    assert density_and_coverage(real[:2], real[:2], 5) == (2.0, 1.0)


@pytest.mark.parametrize(("first", "second", "axes"), [(5, 9, 3), (1, 1, 1), (30, 20, 256)])
def test_distances_are_those_of_scipy(first: int, second: int, axes: int) -> None:
    a, b = vectors(0, first, axes), vectors(1, second, axes)
    np.testing.assert_allclose(distances(a, b), cdist(a, b), rtol=1e-9)
    np.testing.assert_allclose(distances(a, a), cdist(a, a), rtol=1e-9, atol=1e-6 * np.abs(a).max())
    single = distances(a.astype(np.float32), b.astype(np.float32))
    assert single.dtype == np.float64
    np.testing.assert_allclose(single, cdist(a, b), rtol=1e-5)


def test_nearest_tells_which_and_how_far() -> None:
    index, apart = nearest_neighbors(
        np.array([[0.0, 0.0], [10.0, 1.0]]), np.array([[10.0, 0.0], [3.0, 4.0], [-6.0, 0.0]])
    )
    assert index.tolist() == [1, 0]
    np.testing.assert_allclose(apart, [5.0, 1.0])
    points, among = vectors(0, 40, 6), vectors(1, 70, 6)
    index, apart = nearest_neighbors(points, among)
    np.testing.assert_array_equal(index, cdist(points, among).argmin(axis=1))
    np.testing.assert_allclose(apart, cdist(points, among).min(axis=1))


def test_what_is_among_them_is_its_own_nearest() -> None:
    points = vectors(0, 40, 6)
    order = np.random.default_rng(0).permutation(40)
    index, apart = nearest_neighbors(points[order], points)
    assert index.tolist() == order.tolist() and (apart < 1e-6).all()


def test_diversity_by_hand_is_the_mean_over_classes_and_one_clip_is_no_class() -> None:
    drawn = np.zeros((5, 1, 2), np.float32)
    drawn[:, 0, 0] = [
        0,
        1,
        4,
        3,
        100,
    ]  # deviations of the classes at this place: 2 and 1; at the other: 0 and 0
    labels = np.array([0, 1, 0, 1, 2])
    assert diversity(drawn, labels) == pytest.approx((2 / 2 + 1 / 2) / 2)
    assert diversity(drawn[:4], labels[:4]) == diversity(drawn, labels)
    assert diversity(drawn[2:], labels[2:]) == 0.0  # one clip of each


def test_a_generator_of_one_clip_a_class_has_no_diversity_however_the_classes_differ() -> None:
    labels = np.repeat(np.arange(3), 4)
    drawn = np.random.default_rng(0).normal(size=(3, 8, 10))[labels]
    assert diversity(drawn, labels) == pytest.approx(0.0, abs=1e-9)
    assert diversity(drawn + np.random.default_rng(1).normal(size=drawn.shape), labels) > 0.5


def test_mean_difference_by_hand() -> None:
    mels = np.array([[[0.0]], [[4.0]], [[10.0]], [[100.0]]])
    unit = np.array([2.0])
    # Class 0 has the pairs (0, 4), (4, 10) and (10, 0), in units of 2; class 1 has one clip, and no pair.
    assert mean_pairwise_difference(mels, np.array([0, 0, 0, 1]), unit) == pytest.approx((4 + 6 + 10) / 3 / 2)
    assert mean_pairwise_difference(mels, np.arange(4), unit) == 0.0


def test_few_pairs_stand_for_all() -> None:
    mels = np.random.default_rng(0).standard_normal((200, 3, 4))
    labels, unit = np.arange(200) % 2, np.ones(3)
    assert mean_pairwise_difference(mels, labels, unit, pairs=4) == pytest.approx(
        mean_pairwise_difference(mels, labels, unit, pairs=99), rel=0.02
    )
