"""JSON lines as tables: columns are the keys of all lines, values of lists are distinguished from texts."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from pipeline.io.errors import UserError
from pipeline.io.table_files import ListText, open_table, value_text


def write(path: Path, *rows: dict[str, Any] | str, encoding: str = "utf-8") -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_bytes("".join(f"{line}\n" for line in lines).encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_columns_are_the_keys_of_all_lines(encoding: str, tmp_path: Path) -> None:
    rows = ({"file_name": "ä.wav"}, "", {"label": "dög", "file_name": "b.wav"}, {"split": None, "label": 1})
    with open_table(write(tmp_path / "x.jsonl", *rows, encoding=encoding), "--data") as table:
        assert table.header == ["file_name", "label", "split"]
        expected = [(1, ["ä.wav", "", ""]), (3, ["b.wav", "dög", ""]), (4, ["", "1", ""])]
        assert list(table.rows()) == expected == list(table.rows())


@pytest.mark.parametrize("indent", [None, 2])
def test_list_of_objects_is_a_table(indent: int | None, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(
        json.dumps([{"file_name": "a.wav"}, {"label": "dog", "file_name": "b.wav"}], indent=indent)
    )
    with open_table(path, "--data") as table:
        assert table.header == ["file_name", "label"]
        expected = [(1, ["a.wav", ""]), (2, ["b.wav", "dog"])]
        assert list(table.rows()) == expected == list(table.rows())
    for text, message in (("[1]", "line 1: expected an object"), ("[{", "line 1: not JSON")):
        path.write_text(text)
        with pytest.raises(UserError, match=message), open_table(path, "--data"):
            pass


@pytest.mark.parametrize("ending", ["json", "ndjson", "JSONL"])
def test_endings_of_json_lines(ending: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"x.{ending}", {"file_name": "a.wav"}, {"file_name": "b.wav"})
    with open_table(path, "--data") as table:
        assert list(table.rows()) == [(1, ["a.wav"]), (2, ["b.wav"])]


def test_unusable_line_is_named_with_its_row(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", {"a": 1}, "[2]", {"b": 3})
    with open_table(path, "--data") as table:
        assert table.header == ["a", "b"]
        rows = table.rows()
        assert next(rows) == (1, ["1", ""])
        with pytest.raises(UserError, match=rf"^--data {path}, line 2: expected an object such as"):
            next(rows)
    with pytest.raises(UserError, match="line 1: not JSON"), open_table(write(path, "a,b"), "--data"):
        pass


def test_text_in_another_encoding_is_reported_with_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"a": 1}\n' * 5000 + '{"a": "ä"}\n'.encode("latin-1"))
    read = 0
    with pytest.raises(UserError, match="not UTF-8 text"), open_table(path, "--data") as table:
        for _ in table.rows():
            read += 1
    assert read > 1000


def test_file_larger_than_memory_could_be_is_read_row_by_row(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", *({"a": "x" * 2000, "b": number} for number in range(2000)))
    tracemalloc.start()
    with open_table(path, "--data") as table:
        assert sum(len(values) for _, values in table.rows()) == 4000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < path.stat().st_size / 10


@pytest.mark.parametrize(
    ("value", "text", "is_list"),
    [
        (["a", "b"], "a;b", True),
        ([["a", "b"]], "a;b", True),
        (["a"], "a", True),
        (["a, b"], "a, b", True),
        (["a", None], "a", True),
        ([], "", True),
        (None, "", False),
        ("a;b", "a;b", False),
        (1.5, "1.5", False),
    ],
)
def test_list_is_told_from_a_text(value: Any, text: str, is_list: bool) -> None:
    assert value_text(value) == text and isinstance(value_text(value), ListText) == is_list
