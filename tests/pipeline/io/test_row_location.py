"""Locations of rows: text and back, on disk and in object stores, with odd names."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from pipeline.distributed.unit_digests import to_arrow, unit_digests
from pipeline.io.row_location import RowLocation, parse_row, row_path, row_suffix
from pipeline.io.storage import to_path

URI = "s3://bucket/data/train.parquet"
OPTIONS = "?endpoint=http://127.0.0.1:9000&region=us-east-1"


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("", "#000017"),
        ("dog.wav", "#000017/dog.wav"),
        ("/home/me/clips/dog.wav", "#000017/dog.wav"),
        ("C:\\clips\\dog.wav", "#000017/dog.wav"),
        ("clips/", "#000017"),
        ("a#1?x=y.wav", "#000017/a#1?x=y.wav"),
        ("Größe\n.wav", "#000017/Größe\n.wav"),
    ],
)
@pytest.mark.parametrize("file", ["/data/a b/train.parquet", URI, URI + OPTIONS, "/d/x.parquet#3/y.PARQUET"])
def test_location_is_parsed_back(name: str, suffix: str, file: str) -> None:
    assert row_suffix(17, name) == suffix
    path = row_path(to_path(file), suffix)
    assert parse_row(path) == RowLocation(file, 17)
    assert str(to_path(path)) == path


def test_options_of_uri_are_at_its_end() -> None:
    assert row_path(to_path(URI + OPTIONS), "#000002/a.wav") == f"{URI}#000002/a.wav{OPTIONS}"


@pytest.mark.parametrize(
    "path",
    ["/x.parquet", "/x.parquet#", "/x.parquet#a", "/x.parquet#1/a/b", "/x.wav#1", "/x.parquet#1.wav", URI],
)
def test_files_are_no_rows(path: str) -> None:
    assert parse_row(path) is None


def test_locations_sort_as_rows_do() -> None:
    suffixes = [row_suffix(row, name) for row, name in ((2, "z"), (10, "a"), (11, ""), (99_999, "b"))]
    assert suffixes == sorted(suffixes)


def test_rows_have_digests_of_their_own_whatever_the_endpoint() -> None:
    def digests(options: str) -> list[str]:
        paths = [row_path(to_path(URI + options), row_suffix(row)) for row in (1, 2)]
        return unit_digests(to_arrow(pd.DataFrame({"path": paths})), 1, [])

    assert digests(OPTIONS) == digests("") and len(set(digests(""))) == 2


def test_name_with_options_of_its_own_stays_a_name() -> None:
    path = row_path(Path("/x.parquet"), row_suffix(1, "a?b=c"))
    assert parse_row(path) == RowLocation("/x.parquet", 1)
