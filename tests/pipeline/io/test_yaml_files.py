"""YAML files as people mean them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.io.errors import UserError
from pipeline.io.yaml_files import read_yaml, yaml_text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("4E5", 400000.0),
        ("-1.5e+3", -1500.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("12", 12),
        ("007", "007"),
        ("no", "no"),
        ("off", "off"),
        ("Yes", "Yes"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        ("'1e-3'", "1e-3"),
        ("[1e-3, no, 3]", [0.001, "no", 3]),
    ],
)
def test_values_are_read_by_yaml_1_2(tmp_path: Path, text: str, value: Any) -> None:
    (tmp_path / "a.yaml").write_text(f"key: {text}\n")
    assert read_yaml(tmp_path / "a.yaml", "--config") == {"key": value}


@pytest.mark.parametrize(
    "value",
    [
        *("no", "y", "1e-3", "007", "12:30", "2024-01-01", "~", "=", "<<", "true", "1.5", "", "Hündin"),
        *(1e-7, 1e22, None, True, 3, [1, 2], {"a": "on"}),
    ],
)
def test_written_values_are_read_unchanged(tmp_path: Path, value: Any) -> None:
    (tmp_path / "a.yaml").write_text(yaml_text({"key": value}), encoding="utf-8")
    assert read_yaml(tmp_path / "a.yaml", "--config") == {"key": value}
    assert yaml.safe_load(yaml_text({"key": value})) == {"key": value}  # by YAML 1.1 too


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "the key 'a' is given twice .*line 3"),
        ("x: {y: 1, y: 2}\n", "the key 'y' is given twice"),
        ("1: 2\n", "the key 1 is not a name"),
        ("- 1\n", "must be a mapping of keys to values, not a list"),
        ("a: [1", "invalid YAML: "),
        ("a: !!python/object:os.system 1", "invalid YAML: "),
        ("a: !!int x", "invalid YAML: "),
        ("? [1]\n: 2", "invalid YAML: "),
        ("\ta: 1", "invalid YAML: "),
    ],
)
def test_unusable_file_is_a_one_line_error(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        read_yaml(path, "--config")
    assert str(error.value).startswith(f"--config {path}: ") and "\n" not in str(error.value)


def test_merged_keys_and_byte_order_mark_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("\ufeffx: &x {p: 1, q: 2}\ny: {<<: *x, p: 3}\n", encoding="utf-8")
    assert read_yaml(tmp_path / "a.yaml", "--config")["y"] == {"p": 3, "q": 2}
