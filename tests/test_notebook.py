"""The notebook of the documentation: up to date, small, and it runs from top to bottom."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

import melray  # noqa: E402
from docs.make_notebook import NOTEBOOK, execute, make_notebook  # noqa: E402
from tests.test_docs import check_commands  # noqa: E402


def printed(notebook: nbformat.NotebookNode) -> str:
    """Return what the cells of a notebook have printed."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.output_type == "error"]
    return "".join(output.get("text", "") for output in outputs)


def percents(text: str, name: str) -> float:
    return float(re.search(rf"{name}:? (\d+)%", text)[1])


def test_stored_notebook_has_current_cells_and_outputs() -> None:
    stored = nbformat.read(NOTEBOOK, 4)
    assert [cell.source for cell in stored.cells] == [cell.source for cell in make_notebook().cells]
    assert percents(printed(stored), "accuracy on 20 test clips") >= 70
    assert NOTEBOOK.stat().st_size < 250_000


def test_cells_use_existing_commands_functions_and_arguments() -> None:
    cells = [cell.source for cell in make_notebook().cells if cell.cell_type == "code"]
    shell = [cell for cell in cells if cell.startswith("%%bash")]
    assert shell
    check_commands("\n".join(shell))
    calls = [
        node
        for cell in set(cells).difference(shell)
        for node in ast.walk(ast.parse(cell))
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("melray.")
    ]
    assert len(calls) >= 5
    for call in calls:
        function = getattr(melray, ast.unparse(call.func).removeprefix("melray."))
        keywords = dict.fromkeys(str(keyword.arg) for keyword in call.keywords)
        inspect.signature(function).bind(*call.args, **keywords)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_notebook_runs_and_classifies_most_clips(tmp_path: Path) -> None:
    text = printed(execute(make_notebook(), tmp_path))
    assert percents(text, "accuracy on 20 test clips") >= 60
    linear, network = percents(text, "validation accuracy"), percents(text, "the network")
    assert network > linear
