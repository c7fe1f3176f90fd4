"""Splits are grouped (no recording on both sides), stratified, and determined by the seed."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.data import group_split as group_split_module
from pipeline.data.group_split import group_folds, group_split, groups_on_both_sides, sparse_group_folds
from pipeline.data.rows import Rows
from pipeline.data.split import row_folds, split_rows
from pipeline.data.split_config import SplitConfig
from pipeline.data.split_warnings import split_warnings
from pipeline.io.errors import UserError
from tests.helpers.rows import make_rows


def random_clips(seed: int, span_classes: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Sample labels and groups of clips: 2 to 7 classes, 1 to 24 recordings per class, 1 to 5 clips each."""
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
def test_group_split_keeps_recordings_and_training_classes(seed: int, span_classes: bool):
    labels, groups = random_clips(seed, span_classes)
    fraction = float(np.random.default_rng(seed).uniform(0.05, 0.6))
    val = group_split(labels, groups, fraction, seed)
    assert val.dtype == bool and val.shape == labels.shape
    assert groups_on_both_sides(groups, val, ~val) == []
    for label in np.unique(labels):
        assert not val[labels == label].all()
        if len(set(groups[labels == label])) == 1:
            assert not val[labels == label].any()


@pytest.mark.parametrize("seed", range(40))
def test_group_split_is_stratified(seed: int):
    labels, groups = random_clips(seed)
    fraction = float(np.random.default_rng(seed).uniform(0.05, 0.6))
    val = group_split(labels, groups, fraction, seed)
    for label in np.unique(labels):
        class_mask = labels == label
        _, counts = np.unique(groups[class_mask], return_counts=True)
        if len(counts) > 1:
            target = min(max(1, round(fraction * class_mask.sum())), class_mask.sum() - counts.min())
            closest = max(target, counts.min() if len(counts) > 1 else 0)
            assert abs(val[class_mask].sum() - closest) <= counts.max() / 2
            assert val[class_mask].any()


@pytest.mark.parametrize("seed", range(10))
def test_only_recording_of_a_class_does_not_take_the_validation_of_another(seed: int):
    """The smallest recording with a dog is the only one with frogs, so another one validates dogs."""
    recordings = [("yard 1", "dog", 6), ("yard 3", "dog", 8), ("pond", "frog", 11), ("pond", "dog", 1)]
    recordings.append(("shed", "owl", 6))
    groups = np.concatenate([[group] * clips for group, _, clips in recordings])
    labels = np.concatenate([[label] * clips for _, label, clips in recordings])
    val = group_split(labels, groups, 0.2, seed)
    assert set(groups[val]) == {"yard 1"}


@pytest.mark.parametrize("seed", range(300))
def test_classes_without_validation_have_no_recording_to_spare(seed: int):
    rng = np.random.default_rng(seed)
    clips = int(rng.integers(8, 40))
    groups, labels = (
        rng.integers(rng.integers(4, 9), size=clips),
        rng.integers(rng.integers(2, 6), size=clips),
    )
    val = group_split(labels, groups, float(rng.uniform(0.05, 0.5)), seed)
    assert groups_on_both_sides(groups, val, ~val) == []
    recordings = {label: len(set(groups[~val & (labels == label)])) for label in np.unique(labels)}
    assert min(recordings.values()) > 0
    for label in np.unique(labels):
        if not val[labels == label].any():
            own = [set(labels[groups == group]) for group in set(groups[labels == label])]
            assert all(any(recordings[other] == 1 for other in of_group) for of_group in own)


def test_recordings_with_all_classes_are_split_by_the_fraction():
    """Of ten recordings in which each class occurs, more often in some; no class alone may decide."""
    differences = []
    for seed in range(40):
        counts = np.random.default_rng(seed).integers(1, 13, (10, 4))
        groups = np.repeat(np.arange(10), counts.sum(axis=1))
        labels = np.concatenate([np.repeat(np.arange(4), of_recording) for of_recording in counts])
        val = group_split(labels, groups, 0.2, seed)
        assert 0.12 <= val.mean() <= 0.3 and len(np.unique(groups[val])) in (2, 3)
        differences.append([val[labels == label].mean() - 0.2 for label in range(4)])
    assert np.abs(differences).mean() < 0.055


def test_group_split_is_exact_for_single_clip_groups():
    labels = np.repeat([0, 1, 2], [100, 50, 10])
    val = group_split(labels, np.arange(160), 0.2, 7)
    assert np.bincount(labels[val]).tolist() == [20, 10, 2]


def test_group_of_two_classes_leaves_each_class_trainable():
    labels, groups = np.array([0, 0, 0, 0, 1, 2, 2]), np.array(list("abcdaab"))
    for seed in range(50):
        val = group_split(labels, groups, 0.5, seed)
        assert not val[labels == 1].any() and not val[labels == 2].all()
        assert groups_on_both_sides(groups, val, ~val) == []


def test_group_split_follows_seed():
    labels, groups = np.repeat([0, 1], 50), np.arange(100)
    splits = [group_split(labels, groups, 0.2, seed) for seed in range(5)]
    assert len({split.tobytes() for split in splits}) == 5
    np.testing.assert_array_equal(group_split(labels, groups, 0.2, 3), splits[3])
    # Over many seeds, every clip is in the validation set about equally often.
    counts = sum(group_split(labels, groups, 0.2, seed).astype(int) for seed in range(400))
    assert counts.min() > 40 and counts.max() < 130


@pytest.mark.parametrize("fraction", [0.0, -1.0])
def test_group_split_of_zero_fraction_is_empty(fraction: float):
    assert not group_split(np.repeat([0, 1], 50), np.arange(100), fraction, 0).any()


def test_group_split_accepts_string_labels():
    labels = np.array(["dog", "rain"] * 10, dtype=object)
    val = group_split(labels, np.array([f"g{i}" for i in range(20)], dtype=object), 0.2, 0)
    assert sorted(labels[val]) == ["dog", "dog", "rain", "rain"]


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("seed", range(10))
def test_group_folds_partition_clips_without_leakage(seed: int, dense: bool, monkeypatch: pytest.MonkeyPatch):
    if not dense:
        monkeypatch.setattr(group_split_module, "MAX_DENSE_COUNTS", 0)
    labels, groups = np.repeat(np.arange(4), 30), np.repeat(np.arange(40), 3)
    folds = group_folds(labels, groups, 5, seed)
    assert sorted(set(folds.tolist())) == [1, 2, 3, 4, 5]
    for fold in range(1, 6):
        assert groups_on_both_sides(groups, folds == fold, folds != fold) == []
        # Ten recordings of three clips per class, in five folds.
        assert np.bincount(labels[folds == fold], minlength=4).tolist() == [6, 6, 6, 6]
    np.testing.assert_array_equal(group_folds(labels, groups, 5, seed), folds)


@pytest.mark.parametrize("seed", range(5))
def test_sparse_folds_are_as_even_as_dense_ones(seed: int):
    labels, names = random_clips(seed, span_classes=True)
    groups = np.unique(names, return_inverse=True)[1]

    def unevenness(folds: np.ndarray) -> float:
        counts = np.zeros((5, labels.max() + 1))
        np.add.at(counts, (folds - 1, labels), 1)
        return float((counts / counts.sum(axis=0)).std(axis=0).mean())

    folds = sparse_group_folds(labels, groups, 5, seed)
    assert all(len(set(folds[groups == group])) == 1 for group in groups)
    assert unevenness(folds) <= 1.2 * unevenness(group_folds(labels, names, 5, seed)) + 0.01


def test_folds_of_thousands_of_classes_are_even():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(3000), 10))
    folds = group_folds(labels, np.arange(len(labels)), 5, 0)
    counts = np.zeros((3000, 5), int)
    np.add.at(counts, (labels, folds - 1), 1)
    assert (counts == 2).all()


def test_groups_on_both_sides_are_named():
    groups = np.array(["b", "a", "b", "c", "a"])
    first = np.array([True, True, False, True, False])
    assert groups_on_both_sides(groups, first, ~first) == ["a", "b"]
    assert groups_on_both_sides(groups, first, np.zeros(5, bool)) == []


# Splits of datasets


@pytest.mark.parametrize(
    ("recordings", "folds", "message"),
    [
        (
            {"dog": [5, 5], "rain": [1] * 5},
            3,
            r"--num-folds: 3 folds requested, but class 'dog' has only 2 recordings; use 2 or fewer, or add",
        ),
        (
            {"dog": [9], "rain": [1] * 5},
            2,
            "class 'dog' has only 1 recording; add recordings of it, or leave",
        ),
        ({"a": [4], "b": [4], "c": [1] * 9}, 5, r"class 'a' has only 1 recording \(\+1 more"),
    ],
)
def test_fewer_recordings_than_folds_names_class(recordings: dict, folds: int, message: str):
    rows = make_rows(recordings)
    with pytest.raises(UserError, match=message):
        row_folds(rows, SplitConfig(num_folds=folds))
    with pytest.raises(UserError, match=message.replace("--num-folds", "--val-split")):
        split_rows(rows, SplitConfig(val_split=(1, folds)))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("clips", [[2], [1, 1], [9, 1, 1], [1] * 4])
def test_folds_have_all_classes_of_uneven_recordings(clips: list[int], seed: int):
    num_folds = max(2, len(clips))
    rows = make_rows({"a": [1] * num_folds, "b": clips * num_folds, "c": [30, *[1] * (num_folds - 1)]})
    folds = row_folds(rows, SplitConfig(num_folds=num_folds, seed=seed))
    for fold in range(1, num_folds + 1):
        assert set(rows.labels[folds == fold]) == {0, 1, 2}


def test_thousand_classes_of_two_clips_are_split():
    rows = make_rows({f"class {i:04d}": [1, 1] for i in range(1000)})
    split = split_rows(rows, SplitConfig())
    assert len(set(rows.labels[split.train])) == len(set(rows.labels[split.val])) == 1000
    assert split_warnings(rows, split) == []


def test_copies_of_held_out_clips_are_not_used():
    rows = make_rows({"a": [1] * 4, "b": [1] * 4}, {"a": [1, 1, 2, 2], "b": [1, 1, 2, 2]})
    rows.table.loc[0, "content"] = rows.table.loc[3, "content"]  # one in each fold
    split = split_rows(rows, SplitConfig(fold=2, val_fraction=0.0))
    assert split.held_out.tolist() == [2, 3, 6, 7] and split.train.tolist() == [1, 4, 5]
    (warning,) = split_warnings(rows, split)
    assert "not used: 1 clip with the same audio as held-out clips" in warning


@pytest.mark.parametrize(
    ("rows", "config", "warnings"),
    [
        (make_rows({"a": [1] * 5, "b": [1] * 5}), {}, []),
        (make_rows({"a": [1] * 5, "b": [1] * 5}), {"val_fraction": 0.0}, []),
        (
            make_rows({"a": [1] * 5, "b": [1] * 5, "dog": [7]}),
            {},
            ["not validated: 'dog': a class needs two recordings, one to train on and one to validate; "],
        ),
        (
            make_rows({"a": [1] * 5} | {f"c{i}": [3] for i in range(8)}),
            {},
            [
                "not validated: 'c0', 'c1', 'c2', 'c3', 'c4' (+3 more)",
                "all validation clips are of one class",
            ],
        ),
        (
            make_rows({"a": [3, 3], "b": [9]}),
            {},
            [
                "not validated: 'b'",
                "all validation clips are of one class",
                "all 3 validation clips are of one recording, so validation scores, and what is chosen by ",
            ],
        ),
        (
            make_rows({"a": [1, 1], "b": [1, 1], "c": [1, 1]}, {"a": [1, 2], "b": [1, 2], "c": [2, 2]}),
            {"fold": 1, "val_fraction": 0.0},
            ["no held-out clip of 'c': the held-out scores are of the other 2 of 3 classes"],
        ),
        (
            make_rows({"a": [1, 1], "b": [1, 1], "c": [1, 1]}, {"a": [1, 2], "b": [1, 2], "c": [2, 2]}),
            {"fold": 2, "val_fraction": 0.0},
            ["no training clip of 'c': the model will never predict it"],
        ),
    ],
)
def test_split_warns_of_classes_left_out(rows: Rows, config: dict, warnings: list[str]):
    found = split_warnings(rows, split_rows(rows, SplitConfig(**config)))
    assert len(found) == len(warnings)
    for text, start in zip(found, warnings, strict=True):
        assert text.startswith(start)


def test_classes_of_one_recording_cannot_be_validated():
    with pytest.raises(UserError, match="every recording is the only one of a class"):
        split_rows(make_rows({"a": [5], "b": [3]}), SplitConfig())


@pytest.mark.parametrize("seed", [2**32 - 1, 2**32, 2**62])
def test_folds_have_seeds_of_any_size(seed: int) -> None:
    labels, groups = random_clips(3)
    folds = group_folds(labels, groups, 3, seed)
    assert set(folds) == {1, 2, 3}
    assert np.array_equal(folds, group_folds(labels, groups, 3, seed))
