"""A submission has the ids, row order and columns of its sample submission."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from pipeline.classifier.submission import read_sample, submission
from pipeline.io.errors import UserError

CLASSES = ("dog", "rain", "label")
TABLE = pd.DataFrame(
    {
        "id": ["b/2.wav", "a/1.wav", "a/2.flac", "c.d.wav"],
        "label": ["rain", "dog", "dog", "label"],
        "p:dog": [0.1, 0.8, 0.6, 0.0],
        "p:rain": [0.7, 0.1, 0.3, 0.1],
        "p:label": [0.2, 0.1, 0.1, 0.9],
    }
)


def sample(*ids: str, columns: tuple[str, ...] = ("id", "class")) -> pd.DataFrame:
    return pd.DataFrame(
        {name: list(ids) if name == columns[0] else ["?"] * len(ids) for name in columns}, dtype=str
    )


def test_submission_without_sample_lists_all_clips_sorted():
    result = submission(TABLE, CLASSES, None)
    assert list(result.columns) == ["id", "label"]
    assert result.to_numpy().tolist() == [
        ["a/1.wav", "dog"],
        ["a/2.flac", "dog"],
        ["b/2.wav", "rain"],
        ["c.d.wav", "label"],
    ]


@pytest.mark.parametrize(
    ("ids", "labels"),
    [
        # Paths, in another order.
        (["c.d.wav", "b/2.wav", "a/1.wav", "a/2.flac"], ["label", "rain", "dog", "dog"]),
        # File names, of some clips only.
        (["2.flac", "1.wav", "2.wav"], ["dog", "dog", "rain"]),
        # File names without suffix.
        (["1", "c.d"], ["dog", "label"]),
        # Paths without suffix.
        (["a/2", "b/2"], ["dog", "rain"]),
        # The same clip several times.
        (["1", "a/1.wav", "1.wav"], ["dog", "dog", "dog"]),
        ([], []),
    ],
)
def test_submission_follows_ids_and_columns_of_sample(ids: list[str], labels: list[str]):
    result = submission(TABLE, CLASSES, sample(*ids, columns=("File Name", "Category")))
    assert list(result.columns) == ["File Name", "Category"]
    assert result["File Name"].tolist() == ids
    assert result["Category"].tolist() == labels


def test_exact_path_is_never_ambiguous():
    table = TABLE.assign(id=["x/1.wav", "1.wav", "y/1.wav", "1"])
    assert submission(table, CLASSES, sample("1.wav", "1", "y/1.wav"))["class"].tolist() == [
        "dog",
        "label",
        "dog",
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("2", r"id '2': ambiguous \(2 matches, e.g. b/2.wav and a/2.flac\)"),
        ("3.wav", r"id '3.wav': no match; ids are paths below --audio, or file names"),
        ("d", r"id 'd': no match"),
        ("", r"id '': no match"),
    ],
)
def test_ambiguous_or_missing_id_raises(name: str, message: str):
    with pytest.raises(UserError, match=message):
        submission(TABLE, CLASSES, sample("a/1.wav", name))


def test_columns_named_like_classes_contain_probabilities():
    result = submission(TABLE, CLASSES, sample("a/1.wav", "2.wav", columns=("id", "rain", "dog", "label")))
    assert list(result.columns) == ["id", "rain", "dog", "label"]
    assert result.to_numpy().tolist() == [["a/1.wav", 0.1, 0.8, 0.1], ["2.wav", 0.7, 0.1, 0.2]]
    assert list(submission(TABLE, CLASSES, sample("1", columns=("id", "rain", "dog"))).columns) == [
        "id",
        "rain",
        "dog",
    ]


def test_column_of_unknown_class_raises():
    with pytest.raises(UserError, match="column 'cat' is not a model class; available: dog, rain, label"):
        submission(TABLE, CLASSES, sample("a/1.wav", columns=("id", "dog", "cat")))


def test_sample_is_read_as_text(tmp_path: Path):
    path = tmp_path / "sample.csv"
    path.write_bytes("\ufeffid,label\n007,NA\nnull,\n日本.wav,1.0\n".encode())
    assert read_sample(path).to_dict("list") == {
        "id": ["007", "null", "日本.wav"],
        "label": ["NA", "", "1.0"],
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "not a CSV"),
        (b"id\n1\n", r"expected at least two columns \(id, label\), got 1"),
        (b"id,label\n\xff\xfe,1\n", "not a CSV"),
        (b'id,label\n"1,2\n', "not a CSV"),
    ],
)
def test_invalid_sample_raises(content: bytes | None, message: str, tmp_path: Path):
    path = tmp_path / "sample.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_sample(path)
