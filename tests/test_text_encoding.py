"""All text files are read and written as UTF-8, whatever the locale of the process is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("melray", "models", "pipeline", "tune", "cluster", "benchmarks", "docs")
MODULES = sorted(
    str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob("*.py")
)


def default_encodings(code: str) -> Iterator[int]:
    """Yield the line of each call that reads or writes text in the encoding of the locale."""
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.Call):
            continue
        keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        if "encoding" in keywords:
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        module = getattr(getattr(node.func, "value", None), "id", "")
        modes = [*node.args, keywords.get("mode")]
        is_binary = any(isinstance(mode, ast.Constant) and "b" in str(mode.value) for mode in modes)
        if (
            name in ("read_text", "write_text")
            or (name in ("run", "Popen", "check_output") and keywords.keys() & {"text", "universal_newlines"})
            or (name in ("open", "fdopen") and module not in ("os", "Image") and not is_binary)
        ):
            yield node.lineno


# The mode of these is a variable, or the file is audio; the streams of a process have the encoding that
# Python chose for it.
EXCEPTIONS = {"cluster/process.py": 1, "pipeline/audio/decoding/av_reader.py": 1}


@pytest.mark.parametrize("module", MODULES)
def test_text_files_have_explicit_encoding(module: str):
    lines = list(default_encodings((ROOT / module).read_text(encoding="utf-8")))
    assert len(lines) == EXCEPTIONS.get(module, 0), f"{module}, lines {lines}: pass encoding='utf-8'"


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("path.read_text()", True),
        ("path.read_text(encoding='utf-8')", False),
        ("path.write_text(x)", True),
        ("open(path)", True),
        ("open(path, 'rb')", False),
        ("path.open('wb')", False),
        ("path.open('a')", True),
        ("os.open(path, flags)", False),
        ("run(command, text=True)", True),
        ("run(command, text=True, encoding='utf-8')", False),
        ("run(command)", False),
    ],
)
def test_calls_without_encoding_are_found(code: str, found: bool):
    assert bool(list(default_encodings(code))) == found
