"""What travels to a cluster with a job: melray itself, and nothing else of the folder it lies in."""

from __future__ import annotations

import hashlib
import os
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from packaging.requirements import Requirement
from pathspec import GitIgnoreSpec

from pipeline.io.errors import UserError, report_os_errors

PACKAGED_PATHS = ("models", "pipeline", "tune", "cluster", "conf", "pyproject.toml", "constraints.txt")
# Never packed, whatever the ignore files say.
ALWAYS_EXCLUDED = GitIgnoreSpec.from_lines(
    [".env*", ".git", ".venv*", "__pycache__", "*.pyc", "*.token", "*.pem"]
)
MIB = 2**20
# Ray's dashboard refuses a larger upload.
LIMIT = 100 * MIB


def project_root() -> Path:
    """The checkout that this melray runs from.

    Raises:
        UserError: it was not installed from one.
    """
    root = Path(__file__).resolve().parents[2]
    missing = [part for part in PACKAGED_PATHS if not (root / part).exists()]
    if missing:
        raise UserError(
            f"{root} has no {', '.join(missing)}: to submit, run melray from its checkout (make setup, or pip install -e .)"
        )
    return root


def packed_files(root: Path) -> list[Path]:
    """The files that travel, relative to `root`, sorted."""
    files: list[Path] = []
    rules = _rules(root)
    for part in PACKAGED_PATHS:
        place = root / part
        files += [place.relative_to(root)] if place.is_file() else _walk(root, place, rules)
    return sorted(files)


def _walk(root: Path, folder: Path, rules: list[tuple[Path, GitIgnoreSpec]]) -> Iterator[Path]:
    rules = [*rules, *_rules(folder)] if folder != root else rules
    for entry in sorted(folder.iterdir()):
        name = f"{entry.name}/" if entry.is_dir() else entry.name
        ignored = any(
            spec.match_file(f"{entry.parent.relative_to(base).as_posix()}/{name}".removeprefix("./"))
            for base, spec in rules
        )
        # A link may lead to anything outside, such as data.
        if ignored or ALWAYS_EXCLUDED.match_file(name) or entry.is_symlink():
            continue
        if entry.is_dir():
            yield from _walk(root, entry, rules)
        else:
            yield entry.relative_to(root)


def _rules(folder: Path) -> list[tuple[Path, GitIgnoreSpec]]:
    names = [folder / name for name in (".gitignore", ".rayignore")]
    return [
        (folder, GitIgnoreSpec.from_lines(path.read_text().splitlines())) for path in names if path.is_file()
    ]


def check_size(root: Path, files: list[Path], limit: int = LIMIT) -> int:
    """The size of all files in bytes.

    Raises:
        UserError: more than the cluster takes; the line names the largest.
    """
    sizes = {file: (root / file).stat().st_size for file in files}
    total = sum(sizes.values())
    if total > limit:
        largest = sorted(sizes, key=lambda file: -sizes[file])[:3]
        names = ", ".join(f"{file} ({sizes[file] / MIB:.1f} MiB)" for file in largest)
        raise UserError(
            f"{total / MIB:.1f} MiB to send, the cluster takes {limit / MIB:.0f}: name in .rayignore what a job can do without; largest: {names}"
        )
    return total


def write_package(path: Path, root: Path, files: list[Path], extra: Mapping[str, bytes]) -> int:
    """Writes a zip, whose bytes are the same for the same files, so that the cluster knows it again; returns its size in bytes.

    `extra` are files that only the package has, by name.
    """
    contents = {file.as_posix(): (root / file).read_bytes() for file in files} | dict(extra)
    with report_os_errors("writing", path), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(contents):
            entry = zipfile.ZipInfo(name)  # dated 1980
            entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
            archive.writestr(entry, contents[name])
    return os.path.getsize(path)


def constraints_name(root: Path) -> str:
    """A name for the constraints in the package that changes with them: the cluster keeps an environment under the names it was given."""
    return f"constraints-{hashlib.sha256((root / 'constraints.txt').read_bytes()).hexdigest()[:8]}.txt"


def requirements(root: Path, ray_version: str) -> list[str]:
    """melray's own requirements, each at the release that it was tested with; Ray at that of the cluster, which can't be changed."""
    pins = {}
    for line in (root / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            pins[pin.name.lower()] = str(pin.specifier)
    wanted = []
    for text in tomllib.loads((root / "pyproject.toml").read_text())["project"]["dependencies"]:
        need = Requirement(text)
        extras = f"[{','.join(sorted(need.extras))}]" if need.extras else ""
        version = (
            f"=={ray_version}" if need.name == "ray" else pins.get(need.name.lower()) or str(need.specifier)
        )
        wanted.append(f"{need.name}{extras}{version}")
    return wanted
