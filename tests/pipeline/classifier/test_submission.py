"""A submission has the ids, the order and the columns that its sample asks for."""

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


def test_without_a_sample_all_clips_in_order():
    answer = submission(TABLE, CLASSES, None)
    assert list(answer.columns) == ["id", "label"]
    assert answer.to_numpy().tolist() == [
        ["a/1.wav", "dog"],
        ["a/2.flac", "dog"],
        ["b/2.wav", "rain"],
        ["c.d.wav", "label"],
    ]


@pytest.mark.parametrize(
    ("ids", "labels"),
    [
        (
            ["c.d.wav", "b/2.wav", "a/1.wav", "a/2.flac"],
            ["label", "rain", "dog", "dog"],
        ),  # paths, in another order
        (["2.flac", "1.wav", "2.wav"], ["dog", "dog", "rain"]),  # names; not all clips need to be asked for
        (["1", "c.d"], ["dog", "label"]),  # names without their ending
        (["a/2", "b/2"], ["dog", "rain"]),  # paths without their ending
        (["1", "a/1.wav", "1.wav"], ["dog", "dog", "dog"]),  # one clip, several times
        ([], []),
    ],
)
def test_ids_order_and_columns_are_those_of_the_sample(ids: list[str], labels: list[str]):
    answer = submission(TABLE, CLASSES, sample(*ids, columns=("File Name", "Category")))
    assert list(answer.columns) == ["File Name", "Category"]
    assert answer["File Name"].tolist() == ids
    assert answer["Category"].tolist() == labels


def test_a_whole_path_is_never_doubtful():
    table = TABLE.assign(id=["x/1.wav", "1.wav", "y/1.wav", "1"])
    assert submission(table, CLASSES, sample("1.wav", "1", "y/1.wav"))["class"].tolist() == [
        "dog",
        "label",
        "dog",
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("2", r"id '2': 2 files have it, such as b/2.wav and a/2.flac"),
        ("3.wav", r"id '3.wav': no file has it; ids are paths below --audio, or file names"),
        ("d", r"id 'd': no file has it"),
        ("", r"id '': no file has it"),
    ],
)
def test_doubtful_and_missing_ids(name: str, message: str):
    with pytest.raises(UserError, match=message):
        submission(TABLE, CLASSES, sample("a/1.wav", name))


def test_columns_named_like_classes_take_probabilities():
    answer = submission(TABLE, CLASSES, sample("a/1.wav", "2.wav", columns=("id", "rain", "dog", "label")))
    assert list(answer.columns) == ["id", "rain", "dog", "label"]
    assert answer.to_numpy().tolist() == [["a/1.wav", 0.1, 0.8, 0.1], ["2.wav", 0.7, 0.1, 0.2]]
    assert list(submission(TABLE, CLASSES, sample("1", columns=("id", "rain", "dog"))).columns) == [
        "id",
        "rain",
        "dog",
    ]


def test_columns_that_cannot_be_filled():
    with pytest.raises(UserError, match="column 'cat' is no class of the model; they are dog, rain, label"):
        submission(TABLE, CLASSES, sample("a/1.wav", columns=("id", "dog", "cat")))


def test_a_sample_is_read_as_text(tmp_path: Path):
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
        (b"id\n1\n", "needs two columns, ids and labels, and has 1"),
        (b"id,label\n\xff\xfe,1\n", "not a CSV"),
        (b'id,label\n"1,2\n', "not a CSV"),
    ],
)
def test_refused_samples(content: bytes | None, message: str, tmp_path: Path):
    path = tmp_path / "sample.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_sample(path)
