"""A recording is never on both sides, and classes keep their shares."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.data.group_split import group_folds, group_split, groups_on_both_sides


def random_clips(seed: int, span_classes: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Some classes of some recordings of some clips each."""
    rng = np.random.default_rng(seed)
    labels, groups = [], []
    for label in range(rng.integers(2, 8)):
        for recording in range(rng.integers(1, 25)):
            clips = int(rng.integers(1, 6))
            labels += [label] * clips
            groups += [f"{rng.integers(12) if span_classes else label}-{recording}"] * clips
    order = rng.permutation(len(labels))
    return np.array(labels)[order], np.array(groups)[order]


@pytest.mark.parametrize("span_classes", [False, True])
@pytest.mark.parametrize("seed", range(40))
def test_no_recording_on_both_sides_and_no_class_wholly_taken(seed: int, span_classes: bool):
    labels, groups = random_clips(seed, span_classes)
    fraction = float(np.random.default_rng(seed).uniform(0.05, 0.6))
    chosen = group_split(labels, groups, fraction, seed)
    assert chosen.dtype == bool and chosen.shape == labels.shape
    assert groups_on_both_sides(groups, chosen, ~chosen) == []
    for label in np.unique(labels):
        assert not chosen[labels == label].all()
        if len(set(groups[labels == label])) == 1:
            assert not chosen[labels == label].any()


@pytest.mark.parametrize("seed", range(40))
def test_every_class_gives_its_share_as_near_as_its_recordings_allow(seed: int):
    labels, groups = random_clips(seed)
    fraction = float(np.random.default_rng(seed).uniform(0.05, 0.6))
    chosen = group_split(labels, groups, fraction, seed)
    for label in np.unique(labels):
        of_class = labels == label
        _, counts = np.unique(groups[of_class], return_counts=True)
        if len(counts) > 1:
            want = min(max(1, round(fraction * of_class.sum())), of_class.sum() - counts.min())
            assert abs(chosen[of_class].sum() - want) <= counts.max() / 2


def test_exact_where_every_clip_is_a_recording_of_its_own():
    labels = np.repeat([0, 1, 2], [100, 50, 10])
    chosen = group_split(labels, np.arange(160), 0.2, 7)
    assert np.bincount(labels[chosen]).tolist() == [20, 10, 2]


def test_a_recording_of_two_classes_does_not_take_the_only_one_of_a_class():
    labels, groups = np.array([0, 0, 0, 0, 1, 2, 2]), np.array(list("abcdaab"))
    for seed in range(50):
        chosen = group_split(labels, groups, 0.5, seed)
        assert not chosen[labels == 1].any() and not chosen[labels == 2].all()
        assert groups_on_both_sides(groups, chosen, ~chosen) == []


def test_the_seed_decides():
    labels, groups = np.repeat([0, 1], 50), np.arange(100)
    splits = [group_split(labels, groups, 0.2, seed) for seed in range(5)]
    assert len({split.tobytes() for split in splits}) == 5
    np.testing.assert_array_equal(group_split(labels, groups, 0.2, 3), splits[3])
    # Over many seeds each clip validates about as often as any other.
    often = sum(group_split(labels, groups, 0.2, seed).astype(int) for seed in range(400))
    assert often.min() > 40 and often.max() < 130


@pytest.mark.parametrize("fraction", [0.0, -1.0])
def test_nothing_is_chosen_for_nothing(fraction: float):
    assert not group_split(np.repeat([0, 1], 50), np.arange(100), fraction, 0).any()


def test_strings_serve_as_labels():
    labels = np.array(["dog", "rain"] * 10, dtype=object)
    chosen = group_split(labels, np.array([f"g{i}" for i in range(20)], dtype=object), 0.2, 0)
    assert sorted(labels[chosen]) == ["dog", "dog", "rain", "rain"]


@pytest.mark.parametrize("seed", range(10))
def test_folds_cover_everything_once_and_leak_nothing(seed: int):
    labels, groups = np.repeat(np.arange(4), 30), np.repeat(np.arange(40), 3)
    folds = group_folds(labels, groups, 5, seed)
    assert sorted(set(folds.tolist())) == [1, 2, 3, 4, 5]
    for fold in range(1, 6):
        assert groups_on_both_sides(groups, folds == fold, folds != fold) == []
        # Ten recordings of three clips in five folds.
        assert np.bincount(labels[folds == fold], minlength=4).tolist() == [6, 6, 6, 6]
    np.testing.assert_array_equal(group_folds(labels, groups, 5, seed), folds)


def test_leaking_groups_names_them():
    groups = np.array(["b", "a", "b", "c", "a"])
    first = np.array([True, True, False, True, False])
    assert groups_on_both_sides(groups, first, ~first) == ["a", "b"]
    assert groups_on_both_sides(groups, first, np.zeros(5, bool)) == []
