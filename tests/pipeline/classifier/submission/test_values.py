"""A sample submission's header and values state what it requests; where they do not, the user is asked."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipeline.classifier.submission.class_names import match_classes
from pipeline.classifier.submission.filled_values import PredictedClips, Values
from pipeline.classifier.submission.settings import SubmissionValues
from pipeline.classifier.submission.values import choose_values
from pipeline.io.errors import UserError

NAMES = ("cow", "dog", "rain")
CLIPS = PredictedClips(["dog", "rain"], np.array([[0.1, 0.7, 0.2], [0.0, 0.2, 0.8]]))


def choose(
    column: str,
    *values: str,
    names: tuple[str, ...] = NAMES,
    requested: SubmissionValues = "auto",
    positive: str | None = None,
) -> Values:
    """Choose the values of a sample with a single column."""
    return choose_values("sample.csv", pd.DataFrame({column: values}, dtype=str), names, requested, positive)


def choose_columns(*columns: str, requested: SubmissionValues = "auto") -> Values:
    """Choose the values of a sample with several columns."""
    sample = pd.DataFrame({column: ["0"] for column in columns}, dtype=str)
    return choose_values("sample.csv", sample, NAMES, requested)


@pytest.mark.parametrize(
    ("column", "values", "names", "positive"),
    [
        ("probability", ("0", "0"), ("noise", "whale"), "whale"),
        ("probability", ("", ""), ("no whale", "whale"), "whale"),
        ("probability", ("NaN",), ("0", "1"), "1"),
        ("Prob", ("0", "1"), ("negative", "positive"), "positive"),
        ("label", ("0.5",), ("0", "1"), "1"),
        ("target", ("0.1234", "1e-3"), ("background", "bird"), "bird"),
        ("target", ("0,5",), ("no", "yes"), "yes"),
        ("dog", ("0", "0"), ("cat", "dog"), "dog"),
        ("Dog", ("0",), NAMES, "dog"),
        ("is_dog", ("",), NAMES, "dog"),
        ("p", ("0.5",), ("dog",), "dog"),
    ],
)
def test_numbers_request_probability_of_positive_class(
    column: str, values: tuple[str, ...], names: tuple[str, ...], positive: str
):
    chosen = choose(column, *values, names=names)
    assert (chosen.kind, chosen.columns) == ("probability", {column: positive})
    assert f"probability of class '{positive}'" in chosen.note


@pytest.mark.parametrize("names", [("cat", "dog"), ("noise", "no"), NAMES])
def test_unknown_positive_class_is_asked_for(names: tuple[str, ...]):
    with pytest.raises(UserError, match=f"add --positive-class; available: '{names[0]}'"):
        choose("probability", "0", names=names)
    assert choose("probability", "0", names=names, positive=names[1]).columns == {"probability": names[1]}
    assert choose("label", "0", names=names, positive=names[1]).kind == "probability"


def test_positive_class_is_not_ignored():
    with pytest.raises(UserError, match="--positive-class cow: needs a single column of probabilities, but "):
        choose("label", "x", positive="cow", requested="label")


def test_unknown_class_as_positive_class_raises():
    with pytest.raises(UserError, match="--positive-class 'cat': not a model class; available: 'cow'"):
        choose("probability", "0", positive="cat")


@pytest.mark.parametrize(
    ("values", "names"),
    [(("0", "0"), NAMES), (("0", "2"), NAMES), (("0", "0"), ("0", "1")), (("0", "1"), ("cat", "dog"))],
)
def test_whole_numbers_ask_for_a_flag(values: tuple[str, ...], names: tuple[str, ...]):
    with pytest.raises(UserError, match="add --submission-values label, index or probability"):
        choose("label", *values, names=names)
    assert choose("label", *values, names=names, requested="label").kind == "label"
    assert "0 = " + names[0] in choose("label", *values, names=names, requested="index").note


@pytest.mark.parametrize(
    ("column", "values", "names"),
    [
        ("label", ("dog", "dog"), NAMES),
        ("label", ("dog", "cow"), NAMES),
        ("label", ("?", "?"), NAMES),
        ("label", ("", ""), NAMES),
        ("label", ("nan",), NAMES),
        ("label", ("0", "7"), tuple("0123456789")),
        ("label", ("",), ("label", "dog")),
        ("dog or rain", ("",), NAMES),
        ("label", ("sea waves",), ("sea waves", "sea", "waves")),
    ],
)
def test_class_names_and_placeholders_request_labels(
    column: str, values: tuple[str, ...], names: tuple[str, ...]
):
    chosen = choose(column, *values, names=names)
    assert (chosen.kind, chosen.warnings) == ("label", [])


def test_labels_that_are_no_classes_are_reported():
    assert choose("label", "dog", "cat").warnings == ["sample.csv: 'cat': not a model class"]
    assert "class 'dog' is written 'Dog' there" in choose("label", "Dog").warnings[0]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (("dog rain", "cow dog"), ["dog rain", "rain dog"]),
        (("dog,rain",), ["dog,rain", "rain,dog"]),
        (("dog, rain",), ["dog, rain", "rain, dog"]),
        (("dog;rain;cow", "cow;dog;rain", ""), ["dog;rain;cow", "rain;dog;cow"]),
        (("dog|cow",), ["dog|rain", "rain|dog"]),
    ],
)
def test_several_labels_are_the_most_probable(values: tuple[str, ...], expected: list[str]):
    chosen = choose("label", *values)
    assert chosen.fill(CLIPS, NAMES).tolist() == expected


def test_blanks_in_class_names_become_underscores_in_lists():
    names = ("sea waves", "rain")
    clips = PredictedClips(["rain"], np.array([[0.1, 0.9]]))
    chosen = choose("label", "sea_waves rain", names=names)
    assert chosen.fill(clips, names).tolist() == ["rain sea_waves"] and not chosen.warnings


def test_rows_with_different_numbers_of_labels_raise():
    with pytest.raises(UserError, match="rows have 1 to 2 labels; add --submission-values labels"):
        choose("label", "dog rain", "cow")
    assert choose("label", "dog rain", "cow", requested="labels").count == 2


def test_lists_of_labels_without_example_raise():
    with pytest.raises(UserError, match=r"--submission-values labels: sample.csv has no row with several"):
        choose("label", "dog", requested="labels")


def test_classes_that_are_other_numbers_than_indices_are_reported():
    (warning,) = choose("label", "0", names=("0", "1", "10", "2"), requested="index").warnings
    assert "the index of class '10' is 2; --submission-values label writes 10" in warning
    assert not choose("label", "0", names=("0", "1", "2"), requested="index").warnings


def test_index_is_that_of_sorted_classes():
    assert choose("label", "0", requested="index").fill(CLIPS, NAMES).tolist() == [1, 2]


@pytest.mark.parametrize(
    "columns",
    [
        ("rain", "dog", "cow"),
        ("Rain", "DOG", " cow"),
        ("p_rain", "p_dog", "p_cow"),
        ("rain-prob", "dog-prob", "cow-prob"),
    ],
)
def test_column_for_each_class_requests_probabilities(columns: tuple[str, ...]):
    filled = choose_columns(*columns).fill(CLIPS, NAMES)
    assert filled.tolist() == [[0.2, 0.7, 0.1], [0.8, 0.2, 0.0]]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (("rain", "dog"), "sample.csv: no column for 'cow'; --submission-values probability would omit"),
        (
            ("rain", "dog", "cow", "cat"),
            "'cat': not a model class; --submission-values probability would fill",
        ),
        (("rain", "dog", "Rain"), "'Rain': not a model class; no column for 'cow'"),
        (("Rain", "rain", "dog"), "'Rain': not a model class; no column for 'cow'"),
    ],
)
def test_missing_or_extra_class_columns_raise(columns: tuple[str, ...], message: str):
    with pytest.raises(UserError, match=message):
        choose_columns(*columns)
    chosen = choose_columns(*columns, requested="probability")
    assert chosen.kind == "probability" and chosen.warnings
    unknown = [column in ("cat", "Rain") for column in columns]
    assert (chosen.fill(CLIPS, NAMES).sum(axis=0) == 0).tolist() == unknown


@pytest.mark.parametrize("requested", ["auto", "probability"])
def test_column_of_texts_is_not_overwritten(requested: SubmissionValues):
    sample = pd.DataFrame({"cow": ["0"], "dog": ["0"], "rain": ["?"], "Usage": ["Public"]})
    with pytest.raises(UserError, match=r"'Usage': not a model class, .* has texts, .* leave out the column"):
        choose_values("sample.csv", sample, NAMES, requested)


def test_several_columns_without_classes_raise():
    with pytest.raises(
        UserError, match="expected one column besides the ids, or one for each class; got 'a'"
    ):
        choose_columns("a", "b")
    with pytest.raises(UserError, match="--submission-values label: needs a single column"):
        choose_columns("cow", "dog", "rain", requested="label")


def test_labels_of_equal_probability_follow_class_order():
    clips = PredictedClips(["cow"], np.array([[0.25, 0.5, 0.25]], np.float32))
    chosen = choose("label", "dog rain cow")
    assert chosen.fill(clips, NAMES).tolist() == ["dog cow rain"]
    assert clips.probabilities.tolist() == [[0.25, 0.5, 0.25]]


def test_note_of_many_indices_is_short():
    names = tuple(f"{i:04d}" for i in range(3000))
    note = choose("label", "?", names=names, requested="index").note
    assert note.endswith("19 = 0019 and 2980 more, in sorted order")


@pytest.mark.parametrize(("prefix", "suffix"), [("", ""), ("p_", ""), ("prob of ", " (%)")])
def test_columns_of_thousands_of_classes_are_matched(prefix: str, suffix: str):
    """Comparing each column with each class would take minutes."""
    names = [f"{kind} bird {i}" for i in range(1000) for kind in ("red", "Great Blue", "bird")]
    columns = [f"{prefix}{name.upper()}{suffix}" for name in reversed(names)]
    assert list(match_classes(columns, names).values()) == names[::-1]
    assert match_classes([*columns, "id"], names)["id"] is None


@pytest.mark.parametrize(
    ("values", "filled"),
    [
        (("nocall", "nocall"), ["nocall", "dog rain"]),
        (("Nocall", "cow,dog"), ["Nocall", "dog,rain"]),
        (("?", "?"), ["", "dog;rain"]),
    ],
)
def test_rows_without_a_class_have_the_text_of_the_sample(values: tuple[str, ...], filled: list[str]):
    sample = pd.DataFrame({"birds": values}, dtype=str)
    chosen = choose_values("sample.csv", sample, NAMES, multi_label=True)
    clips = PredictedClips(["", "dog;rain"], np.zeros((2, 3), np.float32))
    assert chosen.fill(clips, NAMES).tolist() == filled
    assert chosen.warnings == []
