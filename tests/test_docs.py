"""The documentation names only files, links, flags and commands that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cluster.arguments.usage import COMMANDS
from docs.make_cli_reference import cli_reference

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
HAND_WRITTEN = [page for page in PAGES if page.name not in ("cli.md", "CHANGELOG.md")]
PATH = re.compile(r"`((?:models|pipeline|tune|cluster|tests|conf|docs|benchmarks)/[\w./*-]*)`")
# Flags of other programs in the documentation's examples.
FOREIGN = {"--no-restart", "--help", "--tuned", "--version"}


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """Link targets of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", HAND_WRITTEN, ids=name)
def test_links_lead_to_existing_pages_and_headings(page: Path):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize("page", HAND_WRITTEN, ids=name)
def test_named_files_exist(page: Path):
    roots = (ROOT, ROOT / "tests")  # tests are named by their path below tests/
    paths = [path.rstrip("/") for path in PATH.findall(page.read_text())]
    assert [path for path in paths if not any(list(root.glob(path)) for root in roots)] == []


def test_fault_tolerance_rows_name_existing_tests():
    rows = re.findall(r"`([\w/]+test_\w+\.py)`", (ROOT / "docs/fault-tolerance.md").read_text())
    assert len(rows) > 10
    assert [row for row in rows if not (ROOT / "tests" / row).is_file()] == []


@pytest.mark.parametrize("page", HAND_WRITTEN, ids=name)
def test_examples_use_existing_commands_and_flags(page: Path):
    code = "\n".join(re.findall(r"^```\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL))
    check_commands(code)


def check_commands(code: str) -> None:
    """Check that the commands of melray in lines of a shell exist, and have the flags that they are given."""
    reference = cli_reference()
    for line in re.findall(r"^melray ([^#\n]*)", code.replace("\\\n", " "), re.MULTILINE):
        words = line.split()
        assert words[0] in COMMANDS or words[0].startswith("COMMAND"), line
        flags = {word.partition("=")[0] for word in words if word.startswith("--") and word != "--"}
        assert [flag for flag in flags - FOREIGN if flag not in reference] == [], line


def test_cli_reference_is_up_to_date():
    assert (ROOT / "docs/cli.md").read_text() == cli_reference(), "run `make docs`"


@pytest.mark.parametrize("image", sorted((ROOT / "docs/images").glob("*")), ids=lambda path: path.name)
def test_images_are_small(image: Path):
    assert image.stat().st_size < 300_000


def test_every_image_is_shown():
    shown = set(re.findall(r"images/([\w.]+)", "".join(page.read_text() for page in PAGES)))
    assert {path.name for path in (ROOT / "docs/images").glob("*")} == shown
