"""Build the job package: melray's code, presets and constraints, and no other file of the checkout."""

from __future__ import annotations

import hashlib
import os
import tomllib
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from pathspec import GitIgnoreSpec

from pipeline.io.errors import UserError, report_os_errors

PACKAGED_PATHS = ("models", "pipeline", "tune", "cluster", "conf", "pyproject.toml", "constraints.txt")
# Excluded regardless of ignore files.
ALWAYS_EXCLUDED = GitIgnoreSpec.from_lines(
    [".env*", ".git", ".venv*", "__pycache__", "*.pyc", "*.token", "*.pem"]
)
MIB = 2**20
# Ray's dashboard rejects larger uploads.
MAX_PACKAGE_BYTES = 100 * MIB


def project_root() -> Path:
    """Return the checkout that this melray runs from.

    Raises:
        UserError: it was not installed from a checkout.
    """
    root = Path(__file__).resolve().parents[2]
    missing = [name for name in PACKAGED_PATHS if not (root / name).exists()]
    if missing:
        raise UserError(
            f"{root} has no {', '.join(missing)}: to submit, run melray from its checkout "
            "(make setup, or pip install -e .)"
        )
    return root


def packed_files(root: Path) -> list[Path]:
    """Return the files of the package, relative to `root`, sorted."""
    files: list[Path] = []
    rules = _ignore_rules(root)
    for name in PACKAGED_PATHS:
        path = root / name
        files += [path.relative_to(root)] if path.is_file() else _walk(root, path, rules)
    return sorted(files)


def _walk(root: Path, folder: Path, rules: list[tuple[Path, GitIgnoreSpec]]) -> Iterator[Path]:
    rules = [*rules, *_ignore_rules(folder)] if folder != root else rules
    for entry in sorted(folder.iterdir()):
        name = f"{entry.name}/" if entry.is_dir() else entry.name
        ignored = any(
            spec.match_file(f"{entry.parent.relative_to(base).as_posix()}/{name}".removeprefix("./"))
            for base, spec in rules
        )
        # A link may point outside, such as to data.
        if ignored or ALWAYS_EXCLUDED.match_file(name) or entry.is_symlink():
            continue
        if entry.is_dir():
            yield from _walk(root, entry, rules)
        else:
            yield entry.relative_to(root)


def _ignore_rules(folder: Path) -> list[tuple[Path, GitIgnoreSpec]]:
    names = [folder / name for name in (".gitignore", ".rayignore")]
    return [
        (folder, GitIgnoreSpec.from_lines(path.read_text(encoding="utf-8").splitlines()))
        for path in names
        if path.is_file()
    ]


def check_size(root: Path, files: list[Path], limit: int = MAX_PACKAGE_BYTES) -> int:
    """Return the size of all files in bytes.

    Raises:
        UserError: more than `limit` bytes; the message names the largest files.
    """
    sizes = {file: (root / file).stat().st_size for file in files}
    total = sum(sizes.values())
    if total > limit:
        largest = sorted(sizes, key=lambda file: -sizes[file])[:3]
        names = ", ".join(f"{file} ({sizes[file] / MIB:.1f} MiB)" for file in largest)
        raise UserError(
            f"package is {total / MIB:.1f} MiB (limit {limit / MIB:.0f} MiB); "
            f"exclude files with .rayignore; largest: {names}"
        )
    return total


def write_package(path: Path, root: Path, files: list[Path], extra: Mapping[str, bytes]) -> int:
    """Write the package as a zip; return its size in bytes.

    The same files give the same bytes, so the cluster recognizes a package that it has already received.
    `extra` maps paths in the package to the contents of files that are not in the checkout.
    """
    contents = {file.as_posix(): (root / file).read_bytes() for file in files} | dict(extra)
    with report_os_errors("writing", path), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(contents):
            entry = zipfile.ZipInfo(name)  # dated 1980
            entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
            archive.writestr(entry, contents[name])
    return os.path.getsize(path)


def constraints(root: Path, ray_version: str | None) -> tuple[str, bytes]:
    """Return the file name and the content of the constraints in the package.

    The name changes with the content, as the cluster caches an environment by the text of its requirements.
    With another release of Ray than the tested one, that release replaces it (None: as they are).
    """
    content = (root / "constraints.txt").read_bytes()
    tested = next((line[5:] for line in content.decode().splitlines() if line.startswith("ray==")), None)
    if ray_version not in (None, tested):
        # Packages of Ray's own are pinned to its releases.
        others = [line for line in content.splitlines() if not line.startswith((b"ray==", b"ray-"))]
        content = b"\n".join([*others, f"ray=={ray_version}".encode(), b""])
    return f"constraints-{hashlib.sha256(content).hexdigest()[:8]}.txt", content


def check_extras(root: Path, extras: Iterable[str]) -> None:
    """Check that melray has optional dependencies of these names.

    Raises:
        UserError: it has not.
    """
    known = _project(root).get("optional-dependencies", {})
    for name in extras:
        if name not in known:
            raise UserError(f"--extras {name}: unknown; available: {', '.join(sorted(known))}")


def _project(root: Path) -> dict[str, Any]:
    """Return melray's metadata and dependencies as pyproject.toml has them."""
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def requirements(root: Path, ray_version: str, extras: Iterable[str] = ()) -> list[str]:
    """Return melray's dependencies pinned to the tested releases, and Ray to the release of the cluster.

    `extras` are names of its optional dependencies, of which unknown ones need nothing.
    """
    pins = {}
    for line in (root / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            pins[pin.name.lower()] = str(pin.specifier)
    pinned = []
    project = _project(root)
    optional = project.get("optional-dependencies", {})
    for text in [*project["dependencies"], *(text for name in extras for text in optional.get(name, []))]:
        requirement = Requirement(text)
        extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
        version = (
            f"=={ray_version}"
            if requirement.name == "ray"
            else pins.get(requirement.name.lower()) or str(requirement.specifier)
        )
        pinned.append(f"{requirement.name}{extras}{version}")
    return pinned
