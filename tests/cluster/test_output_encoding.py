"""Output in encodings that lack characters of messages and names, by real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import cluster
from cluster.output_encoding import spelling

# A command whose result and error contain such characters.
PROGRAM = """
import sys
import cluster.cli
def run(arguments):
    print("accuracy 90.0% ± 1.2% → Hündin 犬 \\udcff")
    return cluster.cli._print_error("class 'Hündin'…")
cluster.cli.run = run
cluster.cli.main()
"""


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"PYTHONIOENCODING": "ascii"}, b"accuracy 90.0% +- 1.2% -> Hundin ? \xff\n"),
        (
            {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"},
            b"accuracy 90.0% +- 1.2% -> Hundin ? \xff\n",
        ),
        (
            {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
            "accuracy 90.0% ± 1.2% → Hündin 犬 ?\n".encode(),
        ),
        ({"PYTHONIOENCODING": "latin-1"}, "accuracy 90.0% ± 1.2% -> Hündin ? ?\n".encode("latin-1")),
        ({"PYTHONIOENCODING": "utf-8"}, "accuracy 90.0% ± 1.2% → Hündin 犬 ?\n".encode()),
    ],
)
def test_unprintable_characters_do_not_end_command(
    environment: dict[str, str], expected: bytes, tmp_path: Path
) -> None:
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    search_path = {"PYTHONPATH": str(Path(cluster.__file__).parents[1])}
    process = subprocess.run(
        [sys.executable, tmp_path / "program.py"],
        capture_output=True,
        env={**os.environ, **search_path, **environment},
    )
    assert (process.returncode, process.stdout) == (2, expected)
    assert process.stderr.startswith(b"melray: error: class 'H") and process.stderr.count(b"\n") == 1


def test_spelling_is_closest_ascii_text() -> None:
    assert [spelling(character) for character in "é…±ß犬\ud800"] == ["e", "...", "+-", "ss", "?", "?"]
