"""Stratified, grouped train/validation splits: no recording is on both sides.

In shapes: N number of clips. A group is the recording that a clip comes from.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pipeline.data.label_sets import LabelSets

# Pairs of a group and a class, which scikit-learn counts one by one: more take minutes, and gigabytes.
MAX_DENSE_COUNTS = 2**24
# Difference of two measures of unevenness that is due to rounding.
EQUAL = 1e-12


class _ClassCounts(NamedTuple):
    """Clips of each class in each group, where there are any: P pairs of a group and a class, by group."""

    label: np.ndarray
    """Class index of each pair `[shape=(P,)]`."""
    clips: np.ndarray
    """Clips of each pair `[shape=(P,)]`."""
    starts: np.ndarray
    """First pair of each of G groups, and the number of pairs `[shape=(G + 1,)]`."""

    @classmethod
    def of(cls, group: np.ndarray, label: np.ndarray, num_groups: int, num_classes: int) -> _ClassCounts:
        """Count the clips with these indices of groups and classes `[shape=(N,)]`."""
        pairs, counts = np.unique(group * num_classes + label, return_counts=True)
        pair_group, pair_class = np.divmod(pairs, num_classes)
        return cls(pair_class, counts, np.searchsorted(pair_group, np.arange(num_groups + 1)))

    def of_group(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the classes of a group and the clips of each."""
        part = slice(self.starts[number], self.starts[number + 1])
        return self.label[part], self.clips[part]


def group_split(labels: np.ndarray, groups: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Select the validation clips.

    Args:
        labels: class of each clip `[shape=(N,)]`.
        groups: group of each clip `[shape=(N,)]`; a group is never split.
        fraction: validation fraction in [0, 1); each class gets as close to it as its groups allow, and at
            least one group.
        seed: seed of the order in which groups are considered.

    Returns:
        Validation mask, bool `[shape=(N,)]`. Each class keeps at least one group for training, so that a
        class has no validation clips if each of its groups is the only one of a class.
    """
    if fraction <= 0:
        return np.zeros(len(labels), bool)
    rng = np.random.default_rng(seed)
    mixed = _select_mixed_groups(labels, groups, fraction, rng)
    is_val: dict[object, bool] = {name: True for name, selected in mixed.items() if selected}
    for rows in _rows_by_class(labels):
        names, counts = np.unique(groups[rows], return_counts=True)
        if len(names) < 2:
            continue
        target = max(1, round(fraction * counts.sum()))
        has_val = any(is_val.get(name) for name in names)
        target -= sum(int(count) for name, count in zip(names, counts, strict=True) if is_val.get(name))
        # More groups of several classes only for a class that would have no validation clips.
        closed = mixed.keys() if has_val else ()
        undecided = [
            i for i in rng.permutation(len(names)) if names[i] not in is_val and names[i] not in closed
        ]
        limit = len(undecided) - 1 if len(undecided) == len(names) else len(undecided)
        selected = _select_groups(counts[undecided], target, limit, 0 if has_val else 1)
        for position, i in enumerate(undecided):
            is_val[names[i]] = position in selected
    # Groups of several classes, selected for one, may be all groups of another.
    for rows in _rows_by_class(labels):
        class_groups = groups[rows]
        if all(is_val.get(group, False) for group in class_groups):
            is_val[class_groups[0]] = False
    return _with_missing_classes(
        np.array([is_val.get(group, False) for group in groups], bool), labels, groups
    )


def _with_missing_classes(is_val: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Add a group of each class without validation clips that has one which no class needs for training.

    A group that was selected for such a class may have turned out to be the only one of another class.

    Args:
        is_val: validation mask, bool `[shape=(N,)]`.
        labels: class of each clip `[shape=(N,)]`.
        groups: group of each clip `[shape=(N,)]`.
    """
    names, group = np.unique(groups, return_inverse=True)
    classes, label = np.unique(labels, return_inverse=True)
    pairs = _ClassCounts.of(group, label, len(names), len(classes))
    selected = np.zeros(len(names), bool)
    selected[group[is_val]] = True
    pair_group = np.repeat(np.arange(len(names)), np.diff(pairs.starts))
    validated = np.bincount(pairs.label, selected[pair_group], len(classes)) > 0
    trained = np.bincount(pairs.label, ~selected[pair_group], len(classes))
    if validated.all():
        return is_val
    sizes = np.bincount(group)
    for missing in np.flatnonzero(~validated & (trained > 1)):
        free = [
            number
            for number in pair_group[pairs.label == missing]
            if (trained[pairs.of_group(number)[0]] > 1).all()
        ]
        if free and not validated[missing]:
            smallest = min(free, key=lambda number: sizes[number])
            selected[smallest] = True
            of_group = pairs.of_group(smallest)[0]
            validated[of_group] = True
            trained[of_group] -= 1
    return selected[group]


def _select_mixed_groups(
    labels: np.ndarray, groups: np.ndarray, fraction: float, rng: np.random.Generator
) -> dict[object, bool]:
    """Select among the groups with clips of several classes, for all of their classes at once.

    Greedily: a group is selected if its classes then are, on average, nearer to the validation fraction.
    Assigned class by class, the first class alone would decide: all classes of ten recordings in which each
    occurs may then be validated on the one where the first class is most frequent.

    Args:
        labels: class of each clip `[shape=(N,)]`.
        groups: group of each clip `[shape=(N,)]`.
        fraction: validation fraction.
        rng: orders the groups; not used if each group has one class.

    Returns:
        Whether each such group is selected.
    """
    names, group = np.unique(groups, return_inverse=True)
    classes, label = np.unique(labels, return_inverse=True)
    pairs = _ClassCounts.of(group, label, len(names), len(classes))
    classes_of_group = np.diff(pairs.starts)
    mixed = np.flatnonzero(classes_of_group > 1)
    is_mixed = np.repeat(classes_of_group > 1, classes_of_group)
    total = np.maximum(1, np.bincount(pairs.label[is_mixed], pairs.clips[is_mixed], len(classes)))
    missing = fraction * total
    selected = dict.fromkeys(names[mixed].tolist(), False)
    for number in rng.permutation(mixed) if len(mixed) else ():
        rows, added = pairs.of_group(number)
        gain = np.abs(missing[rows]) - np.abs(missing[rows] - added)
        if (gain / total[rows]).sum() > 0:
            selected[names[number]] = True
            missing[rows] -= added
    return selected


def keep_trainable(is_val: np.ndarray, classes: LabelSets, groups: np.ndarray) -> np.ndarray:
    """Return a validation mask in which every class has clips to train on.

    Args:
        is_val: validation mask, bool `[shape=(N,)]`.
        classes: classes of each clip.
        groups: group of each clip `[shape=(N,)]`; one with the class is used for training.
    """
    is_val = is_val.copy()
    for label in np.flatnonzero(classes.counts() > 0):
        rows = np.flatnonzero(classes.sets[classes.index, label])
        if is_val[rows].all():
            is_val[groups == groups[rows[0]]] = False
    return is_val


def _rows_by_class(labels: np.ndarray) -> list[np.ndarray]:
    """Return the indices of the clips of each class, sorted, in the order of the classes."""
    _, first, counts = np.unique(np.sort(labels), return_index=True, return_counts=True)
    order = np.argsort(labels, kind="stable")
    return [order[start : start + count] for start, count in zip(first, counts, strict=True)]


def _select_groups(counts: np.ndarray, target: int, limit: int, least: int) -> set[int]:
    """Select up to `limit` groups greedily so that their clips approach `target`.

    Args:
        counts: clips of each group, in the order in which groups are considered.
        target: desired number of clips; may be exceeded if that is closer.
        limit: maximum number of groups.
        least: minimum number of groups, 0 or 1.

    Returns:
        Indices into `counts`.
    """
    selected: set[int] = set()
    for i, count in enumerate(counts):
        if len(selected) < limit and abs(target - count) < abs(target):
            selected.add(i)
            target -= int(count)
    if len(selected) < least and limit and target > 0:
        # All groups are more than twice as large as desired: too many validation clips are better than none.
        selected.add(int(np.argmin(counts)))
    return selected


def group_folds(labels: np.ndarray, groups: np.ndarray, num_folds: int, seed: int) -> np.ndarray:
    """Assign clips to folds 1 … `num_folds`, stratified and grouped.

    Returns:
        Fold of each clip, int `[shape=(N,)]`.
    """
    names, group = np.unique(groups, return_inverse=True)
    if len(names) * len(np.unique(labels)) > MAX_DENSE_COUNTS:
        return sparse_group_folds(labels, group, num_folds, seed)
    from sklearn.model_selection import StratifiedGroupKFold  # slow to import, rarely needed

    if seed >= 2**32:  # more than scikit-learn takes
        seed = int(np.random.SeedSequence(seed).generate_state(1)[0])
    folds = np.zeros(len(labels), int)
    splitter = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
    for fold, (_, test_index) in enumerate(splitter.split(labels, labels, groups), start=1):
        folds[test_index] = fold
    return folds


def sparse_group_folds(labels: np.ndarray, groups: np.ndarray, num_folds: int, seed: int) -> np.ndarray:
    """Assign clips to folds as `group_folds` does, without a count for every pair of a group and a class.

    The rule is that of scikit-learn: groups whose clips are most unevenly distributed over the classes first,
    each to the fold where the classes remain most evenly distributed over the folds, or of those that are
    equal in this to the smallest one.

    Args:
        labels: class of each clip `[shape=(N,)]`.
        groups: group of each clip, from 0 `[shape=(N,)]`.
        num_folds: number of folds.
        seed: seed of the order of equal groups.
    """
    classes, label, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    num_groups = int(groups.max()) + 1
    pairs = _ClassCounts.of(groups, label, num_groups, len(classes))
    pair_group = np.repeat(np.arange(num_groups), np.diff(pairs.starts))
    mean = np.bincount(pair_group, pairs.clips, num_groups) / len(classes)
    variance = np.bincount(pair_group, pairs.clips**2, num_groups) / len(classes) - mean**2
    order = np.random.default_rng(seed).permutation(num_groups)
    order = order[np.argsort(-variance[order], kind="stable")]
    class_folds, fold_sizes = np.zeros((len(classes), num_folds)), np.zeros(num_folds)
    fold_of_group = np.empty(num_groups, np.int64)
    for number in order:
        rows, counts = pairs.of_group(number)
        added = counts[:, None]
        before = class_folds[rows]
        squares = (before**2).sum(axis=1, keepdims=True) + 2 * before * added + added**2
        means = (before.sum(axis=1, keepdims=True) + added) / num_folds
        spread = np.sqrt(np.maximum(squares / num_folds - means**2, 0.0)) / sizes[rows][:, None]
        unevenness = spread.sum(axis=0)
        best = np.flatnonzero(unevenness <= unevenness.min() + EQUAL)
        fold = best[fold_sizes[best].argmin()]
        class_folds[rows, fold] += added[:, 0]
        fold_sizes[fold] += added.sum()
        fold_of_group[number] = fold
    return fold_of_group[groups] + 1


def groups_on_both_sides(groups: np.ndarray, first: np.ndarray, second: np.ndarray) -> list[str]:
    """Return the groups, sorted, with clips in both masks `[shape=(N,)]`; empty if there is no leakage."""
    return sorted(set(groups[first]) & set(groups[second]))
