"""Job package: which files it holds, its size and its pinned requirements."""

from __future__ import annotations

import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from cluster.jobs.package import (
    check_extras,
    check_size,
    constraints,
    packed_files,
    project_root,
    requirements,
    write_package,
)
from pipeline.io.errors import UserError

PACKED = [
    "models/__init__.py",
    "pipeline/data/table.py",
    "tune/a b.py",
    "cluster/é.py",
    "conf/a.yaml",
    "pyproject.toml",
    "constraints.txt",
]
EXCLUDED = [
    ".env",
    ".git/config",
    ".venv/lib/x.py",
    "data/clip.wav",
    "runs/a/model.safetensors",
    "tests/test_a.py",
    "benchmarks/b.py",
    "README.md",
    "conf/.env",
    "conf/.env.local",
    "cluster/__pycache__/a.pyc",
    "cluster/admin.token",
    "models/weights.bin",
    "pipeline/private/notes.txt",
    "tune/draft.py",
]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    for name in [*PACKED, *EXCLUDED]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / ".gitignore").write_text("*.bin\n/pipeline/private/\n/data/\n")
    (root / "tune" / ".rayignore").write_text("/draft.py\n.rayignore\n")
    (root / "conf" / "elsewhere").symlink_to(tmp_path)
    return root


def test_package_holds_code_and_presets_only(checkout: Path) -> None:
    assert packed_files(checkout) == sorted(map(Path, PACKED))


def test_package_of_this_checkout_is_complete_and_small() -> None:
    root = project_root()
    files = packed_files(root)
    for name in (
        "cluster/cli.py",
        "models/gan.py",
        "pipeline/extract.py",
        "tune/search.py",
        "conf/search.yaml",
        "constraints.txt",
    ):
        assert Path(name) in files
    assert {file.parts[0] for file in files} == {
        "models",
        "pipeline",
        "tune",
        "cluster",
        "conf",
        "pyproject.toml",
        "constraints.txt",
    }
    assert check_size(root, files) < 5 * 2**20


def test_package_holds_the_templates_of_all_reports() -> None:
    root = project_root()
    packed = set(packed_files(root))
    for folder in ("pipeline/report/templates", "tune/report/templates"):
        templates = {path.relative_to(root) for path in (root / folder).iterdir()}
        assert templates and templates <= packed


def test_wheel_includes_the_templates_of_all_reports() -> None:
    root = project_root()
    settings = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    for folder in sorted(root.glob("*/report/templates")):
        package = ".".join(folder.parent.relative_to(root).parts)
        assert settings["package-data"][package] == ["templates/*"]


def test_oversized_package_error_names_the_largest_files(checkout: Path) -> None:
    (checkout / "conf" / "big.npy").write_bytes(bytes(3 * 2**20))
    (checkout / "models" / "medium.npy").write_bytes(bytes(2**20))
    files = packed_files(checkout)
    with pytest.raises(
        UserError,
        match=r"^package is 4\.0 MiB \(limit 2 MiB\).*largest: conf/big.npy \(3\.0 MiB\), models/medium.npy",
    ):
        check_size(checkout, files, limit=2 * 2**20)


def test_same_files_give_identical_packages(checkout: Path, tmp_path: Path) -> None:
    files = packed_files(checkout)
    sizes = [
        write_package(tmp_path / f"{number}.zip", checkout, files, {"submitted/x.yaml": b"epochs: 3"})
        for number in range(2)
    ]
    assert (tmp_path / "0.zip").read_bytes() == (tmp_path / "1.zip").read_bytes() and sizes[0] == sizes[1]
    with zipfile.ZipFile(tmp_path / "0.zip") as archive:
        assert sorted(archive.namelist()) == sorted([*PACKED, "submitted/x.yaml"])
        assert archive.read("cluster/é.py").decode() == "cluster/é.py"


def test_requirements_are_pinned_and_ray_matches_the_cluster() -> None:
    pinned = {
        requirement.name: requirement
        for requirement in map(Requirement, requirements(project_root(), "9.8.7"))
    }
    assert str(pinned["ray"].specifier) == "==9.8.7" and {"data", "train", "tune"} <= pinned["ray"].extras
    assert {"torch", "numpy", "pydantic", "tyro"} <= pinned.keys()
    assert all(str(requirement.specifier).startswith("==") for requirement in pinned.values())


def test_requirements_of_extras_are_added() -> None:
    root = project_root()
    added = set(requirements(root, "9.8.7", ("timm", "tensorboard"))) - set(requirements(root, "9.8.7"))
    assert [Requirement(text).name for text in added] == ["timm"]


def test_unknown_extras_are_named() -> None:
    check_extras(project_root(), ["av", "timm"])
    with pytest.raises(UserError, match=r"--extras avv: unknown; available: av, .*timm"):
        check_extras(project_root(), ["av", "avv"])


def test_name_of_constraints_depends_on_their_content(checkout: Path) -> None:
    before, _ = constraints(checkout, None)
    (checkout / "constraints.txt").write_text("numpy==1")
    name, content = constraints(checkout, None)
    assert before != name and content == b"numpy==1"


@pytest.mark.parametrize("release", ["2.60.0", "9.8.7"])
def test_constraints_allow_all_that_is_required(release: str) -> None:
    """pip refuses a requirement that contradicts a constraint."""
    name, content = constraints(project_root(), release)
    lines = [line for line in content.decode().splitlines() if line and not line.startswith("#")]
    allowed = {requirement.name.lower(): requirement.specifier for requirement in map(Requirement, lines)}
    assert str(allowed["ray"]) == f"=={release}"
    for requirement in map(Requirement, requirements(project_root(), release, ("serve", "export"))):
        if requirement.name.lower() in allowed:
            (pin,) = requirement.specifier
            assert pin.version in allowed[requirement.name.lower()]
    # Of another release it is another environment.
    assert (name == constraints(project_root(), None)[0]) == (release == "2.60.0")
