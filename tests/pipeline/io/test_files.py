"""Labels become names that may stand in any file system, no two of them the same."""

from __future__ import annotations

import itertools
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from pipeline.io.files import file_names, write_atomically

ODD = [
    "",
    " ",
    "dog\n",
    "a\x00b",
    "\udc80",
    *r". .. ... / // ../.. ..\.. /etc/passwd C:\dog ~ - con. a*?<>|:'b".split(),
]


def check(labels: list[str]) -> None:
    names = file_names(labels)
    assert list(names) == labels
    assert len({name.casefold() for name in names.values()}) == len(labels)
    for name in names.values():
        assert name == name.strip() != ""
        assert all(sign.isalnum() or sign in "_- " for sign in name)


@pytest.mark.parametrize(
    "label",
    ["dog", "Dog Bark", "crackling fire", "sea-waves", "air_conditioner", "Hähnchen", "狗", "собака", "7"],
)
def test_ordinary_labels_stay_what_they_are(label: str) -> None:
    assert file_names([label]) == {label: label}


def test_what_may_not_stand_in_a_name_is_replaced_one_by_one() -> None:
    assert file_names(["Dogs, barking (near)", "guitar/acoustic", "Mr. Fox's"]) == {
        "Dogs, barking (near)": "Dogs_ barking _near_",
        "guitar/acoustic": "guitar_acoustic",
        "Mr. Fox's": "Mr_ Fox_s",
    }


@pytest.mark.parametrize("label", ODD, ids=ascii)
def test_no_label_leaves_its_folder(label: str, tmp_path: Path) -> None:
    check([label])
    place = tmp_path / file_names([label])[label]
    assert place.resolve().parent == tmp_path.resolve()
    place.mkdir()
    assert [path.name for path in tmp_path.iterdir()] == [place.name]


def test_odd_labels_together_have_different_names() -> None:
    check(ODD)


@pytest.mark.parametrize(
    "labels",
    [
        ["dog", "Dog", "DOG", "dOg"],
        ["a", "A", "a_2", "A_2", "a_2_2"],
        ["a_2", "A", "a"],
        ["a/b", "a_b", "a.b", "a_b_2"],
        ["ß", "ss", "SS", "ẞ"],
        ["Å", "\u212b", "å"],
        ["x" * 100, "X" * 100, "x" * 80, "x" * 81, "x" * 100 + "y"],
    ],
    ids=lambda labels: labels[0][:5],
)
def test_names_differ_also_where_case_does_not_count(labels: list[str]) -> None:
    for order in itertools.permutations(labels):
        check(list(order))


def test_names_differ_whatever_the_labels() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        signs = rng.choice(list("aA_2./ -"), size=(150, 5))
        check(list(dict.fromkeys("".join(row)[: rng.integers(1, 6)] for row in signs)))


def test_the_first_of_two_keeps_the_plain_name_and_names_repeat() -> None:
    assert file_names(["dog", "Dog"]) == {"dog": "dog", "Dog": "Dog_2"}
    assert file_names(["Dog", "dog"]) == {"Dog": "Dog", "dog": "dog_2"}


@pytest.mark.parametrize("sign", ["x", "ä", "狗", "\U00020000"])
def test_a_file_of_a_long_label_can_be_written(sign: str, tmp_path: Path) -> None:
    """With a number and an ending, and as its temporary file: a name has at most 255 bytes."""
    labels = [sign * 300, sign * 301]
    check(labels)
    for name in file_names(labels).values():
        assert name.startswith(sign * 10)
        write_atomically(tmp_path / f"{name}_10.wav", lambda file: file.write(b"sound"))
    assert len(list(tmp_path.iterdir())) == 2


def test_a_long_label_does_not_end_in_a_blank() -> None:
    """Windows and FAT drop it, and the name is another one's then."""
    check(["x" * 79 + " y", "x" * 79])


def test_a_label_in_parts_as_macos_writes_it_stays_readable_and_is_not_another_ones() -> None:
    apart = unicodedata.normalize("NFD", "Türklingel")
    assert unicodedata.normalize("NFC", file_names([apart])[apart]) == "Türklingel"
    # Their file systems take both for the same.
    hangul = ["개", unicodedata.normalize("NFD", "개")]
    assert len({unicodedata.normalize("NFC", name) for name in file_names(hangul).values()}) == 2
