"""Files that take precedence over a package by accident: `soundfile.py` in a folder on PYTHONPATH."""

from __future__ import annotations

import re
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path

OWN_PACKAGES = ("models", "pipeline", "tune", "cluster")


def explain_shadowing(error: BaseException) -> str | None:
    """Return which file caused an import error instead of the package of that name, in one line; else None.

    Only files that the error names are considered: PYTHONPATH may replace a package on purpose.
    """
    text = "".join(traceback.format_exception(error))
    is_import_error = re.search("ImportError|ModuleNotFoundError|AttributeError|SyntaxError", text)
    if not is_import_error and ", in <module>" not in text:
        return None
    for path in shadowing_files(sys.path):
        # A script of the user that was imported may raise anything.
        failed = re.search(rf'File "{re.escape(str(path))}", line \d+, in <module>', text)
        if failed or (is_import_error and (str(path) in text or f"'{path.stem}'" in text)):
            return (
                f"{path} takes precedence over the package '{path.stem}' that melray needs; "
                f"rename it, or remove {path.parent} from PYTHONPATH"
            )
    return None


def shadowing_files(search_path: list[str]) -> Iterator[Path]:
    """Yield modules on a search path that hide one of the standard library or of the installation."""
    installed = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib")]
    checkout = Path(__file__).resolve().parents[1]
    for position, entry in enumerate(search_path):
        folder = Path(entry or ".").absolute()
        real = folder.resolve()
        if not real.is_dir() or real == checkout or any(real.is_relative_to(path) for path in installed):
            continue
        for path in sorted([*folder.glob("*.py"), *(file.parent for file in folder.glob("*/__init__.py"))]):
            name = path.stem
            known = name in OWN_PACKAGES or name in sys.stdlib_module_names
            if known or PathFinder.find_spec(name, search_path[position + 1 :]):
                yield path
