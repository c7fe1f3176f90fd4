"""Warnings about names of classes that may stand for several."""

from __future__ import annotations

import pytest

from pipeline.data.sources.class_warnings import class_warnings


def test_names_that_may_be_several_classes_are_named() -> None:
    warning = "class 'dog;rain' is read as one class: add --multi-label if ';' separates classes"
    assert class_warnings({"dog": 5, "dog;rain": 5}) == [warning]
    assert class_warnings({"dog": 5, "rain": 5}) == []
    (several,) = class_warnings({f"a;{number:02}": 5 for number in range(50)})
    assert several.startswith("classes 'a;00', 'a;01', ") and len(several) < 300


def test_names_of_a_multi_label_dataset_are_separated_already() -> None:
    assert class_warnings({"dog": 5, "dog;rain": 5}, multi_label=True) == []


@pytest.mark.parametrize("separator", [",", ", ", "|", "/", " & ", "+"])
def test_names_with_other_classes_in_them_are_named(separator: str) -> None:
    counts = {"dog": 5, f"dog{separator}rain": 5, f"hen{separator}rooster": 5}
    warning = (
        f"class 'dog{separator}rain' is read as one class, with the name of another in it: if these are "
        "several classes of a clip, write ';' between them"
    )
    assert class_warnings(counts, multi_label=True) == [warning]
    assert class_warnings(counts) == [f"{warning}, and add --multi-label"]
