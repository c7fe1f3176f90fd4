"""Checks of this host: Python and packages, CPUs, memory, GPUs, disk, audio decoding."""

from __future__ import annotations

import io
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from cluster.connection.temp_folder import is_short, short_temp_folder
from cluster.doctor.check import Check, fail, ok, warn
from cluster.shadowing import explain_shadowing
from pipeline.distributed.this_host import available_memory, host_cpus, host_memory
from pipeline.io.errors import UserError

GIB = 2**30
MIN_OPEN_FILES = 1024
FORMATS = ("wav", "flac", "ogg", "mp3")


def check_host(project: Path, runs: Path) -> Iterator[Check]:
    """Run all checks of the host; `project` holds pyproject.toml, `runs` is the folder for results."""
    yield from check_packages(*declared_requirements(project))
    yield check_cpus()
    yield check_memory(host_memory(), available_memory())
    if Path("/dev/shm").is_dir():
        yield check_shared_memory(shutil.disk_usage("/dev/shm").free, host_memory())
    yield check_limits()
    yield check_gpu()
    yield check_disk(runs)
    yield check_temp_folder()
    yield check_decoding()


def declared_requirements(project: Path) -> tuple[str, list[str]]:
    """Return the Python versions and the packages that melray requires.

    pyproject.toml of a checkout is newer than the metadata of the installation, which a copy has only.
    """
    file = project / "pyproject.toml"
    if file.is_file():
        table = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        return table["requires-python"], table["dependencies"]
    packages = [text for text in requires("melray") or [] if Requirement(text).marker is None]
    return metadata("melray")["Requires-Python"], packages


def check_packages(python_versions: str, packages: list[str]) -> Iterator[Check]:
    """Compare Python and the installed packages with what is required."""
    python = platform.python_version()
    if python in SpecifierSet(python_versions):
        yield ok("python", f"{python}, {sys.executable}")
    else:
        yield fail(
            "python",
            f"{python}, melray requires {python_versions}",
            "create a new environment: make PYTHON=python3.11 setup",
        )
    problems, versions = [], {}
    for requirement in map(Requirement, packages):
        name = requirement.name
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            problems.append(f"{name} is missing")
            continue
        if not requirement.specifier.contains(versions[name], prereleases=True):
            problems.append(f"{name} {versions[name]} is not {requirement.specifier}")
    if problems:
        yield fail(
            "packages",
            "; ".join(problems),
            "in the checkout: pip install --constraint constraints.txt --editable .",
        )
    else:
        main = ", ".join(f"{name} {versions.get(name)}" for name in ("ray", "torch", "numpy"))
        yield ok("packages", f"{len(versions)} as required; {main}")


def check_import(name: str, package: str) -> Check | None:
    """Return a failed check `name` if a package is missing or lacks a library of the system; None if not."""
    try:
        import_module(package)
    except Exception as error:  # an ImportError, the OSError of a library, the ValueError of another numpy
        return import_failed(name, package, error)
    return None


def import_failed(name: str, package: str, error: Exception) -> Check:
    """Return the failed check `name` of a package that cannot be imported."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return fail(
        name,
        explain_shadowing(error) or f"{package} cannot be imported: {reason}",
        f"in the checkout: pip install --force-reinstall --no-deps --constraint constraints.txt {package}",
    )


def check_cpus() -> Check:
    """Check the number of CPUs and their load, which in a container, too, is that of all CPUs of the host."""
    count, total = host_cpus(), os.cpu_count() or 1
    load = os.getloadavg()[0]
    text = f"{count} of {total}, load {load:.1f}" if count < total else f"{count}, load {load:.1f}"
    if load < 1.5 * total:
        return ok("CPUs", text)
    return warn("CPUs", text, "high load: runs will be slow")


def check_memory(total: float, available: float) -> Check:
    """Check the available memory; both amounts in bytes."""
    text = f"{available / GIB:.1f} of {total / GIB:.1f} GiB free"
    if available < 2 * GIB:
        return warn("memory", text, "Ray and one worker need 2 GiB: free some memory")
    return ok("memory", text)


def check_shared_memory(free: int, memory: float) -> Check:
    """Check the space for Ray's object store, by default 30 % of the memory; amounts in bytes."""
    text = f"{free / GIB:.1f} GiB free in /dev/shm"
    if free < 0.3 * memory:
        return warn(
            "shared memory",
            text,
            "too small for Ray's object store, which is then slow: "
            f"docker run --shm-size={0.33 * memory / GIB:.0f}g",
        )
    return ok("shared memory", text)


def check_gpu() -> Check:
    """Check the GPUs that torch can use by a bfloat16 matrix product on each."""
    if (failed := check_import("GPUs", "torch")) is not None:
        return failed
    import torch

    driver = _driver_version()
    if not torch.cuda.is_available():
        if driver and os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1", "NoDevFiles"):
            return ok("GPUs", "hidden by CUDA_VISIBLE_DEVICES; training uses CPUs")
        if driver:
            return fail(
                "GPUs",
                f"driver {driver}, but torch {torch.__version__} cannot use it",
                "install a CUDA build of torch and a driver that it supports",
            )
        return ok("GPUs", "none; training uses CPUs")
    count = torch.cuda.device_count()
    text = (
        f"{count} × {torch.cuda.get_device_name(0)}, driver {driver or 'unknown'}, CUDA {torch.version.cuda}"
    )
    try:
        incorrect = [index for index in range(count) if not _matmul_is_correct(index)]
    except RuntimeError as error:
        return fail(
            "GPUs",
            f"{text}: {str(error).splitlines()[0]}",
            "check that no other program fills the GPU memory and that nvidia-smi works",
        )
    if incorrect:
        return fail("GPUs", f"{text}: GPU {incorrect[0]} produces wrong results", "reset or replace it")
    return ok("GPUs", f"{text}, bf16 works")


def _matmul_is_correct(index: int) -> bool:
    import torch

    matrix = torch.linspace(-1, 1, 256 * 256).reshape(256, 256)
    on_gpu = matrix.to(f"cuda:{index}", torch.bfloat16)
    # Eight bits of mantissa: inputs and result are each off by up to 1/256.
    return torch.allclose((on_gpu @ on_gpu.T).float().cpu(), matrix @ matrix.T, rtol=0.02, atol=0.5)


def _driver_version() -> str:
    if shutil.which("nvidia-smi") is None:
        return ""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        output = subprocess.run(query, capture_output=True, text=True, timeout=20, encoding="utf-8").stdout
    except subprocess.TimeoutExpired:
        return "unknown (nvidia-smi hangs)"
    return output.strip().partition("\n")[0]


def check_disk(folder: Path) -> Check:
    """Check permission and free space for results."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    text = f"{free / GIB:.1f} GiB free for {folder}"
    if not os.access(existing, os.W_OK):
        return fail("disk", f"{existing} is not writable", "choose another folder for --run and --out")
    if free < GIB // 2:
        return fail("disk", text, "low disk space: checkpoints alone can need more")
    if free <= 5 * GIB:
        return warn("disk", text, "shards, checkpoints and generated sounds may fill it")
    return ok("disk", text)


def check_temp_folder() -> Check:
    """Check that there is a temporary folder that is writable and short enough for Ray's sockets."""
    try:
        folder = short_temp_folder()
        text = f"{shutil.disk_usage(folder).free / GIB:.1f} GiB free for Ray's files in {folder}"
        configured = Path(tempfile.gettempdir()).absolute()
    except UserError as error:
        return fail("temporary files", str(error), "export RAY_TMPDIR=/a/short/path")
    except OSError as error:
        return fail("temporary files", str(error), "set TMPDIR to a writable folder")
    if not is_short(configured):
        text += f"; {configured} is too long for sockets"
    return ok("temporary files", text)


def check_limits() -> Check:
    """Check the limits of the shell on open files and address space, which batch systems lower."""
    files, memory = (resource.getrlimit(name)[1] for name in (resource.RLIMIT_NOFILE, resource.RLIMIT_AS))
    text = "open files " + ("unlimited" if files == resource.RLIM_INFINITY else f"{files:,}")
    if files != resource.RLIM_INFINITY and files < MIN_OPEN_FILES:
        return warn("limits", text, f"Ray needs {MIN_OPEN_FILES}: ulimit -n {MIN_OPEN_FILES}")
    if memory != resource.RLIM_INFINITY:
        text += f", address space {memory / GIB:.0f} GiB"
        return warn("limits", text, "Ray reserves far more addresses than memory: ulimit -v unlimited")
    return ok("limits", text)


def check_decoding() -> Check:
    """Check that common audio formats can be decoded; soundfile brings the only library that is needed."""
    if (failed := check_import("decoding", "soundfile")) is not None:
        return failed
    import soundfile

    unreadable = [name for name in FORMATS if not _decodes(name)]
    library = f"soundfile {soundfile.__version__}, libsndfile {soundfile.__libsndfile_version__}"
    if unreadable:
        return fail(
            "decoding",
            f"{library} cannot read {', '.join(unreadable)}",
            "pip install --upgrade soundfile (its wheel includes libsndfile)",
        )
    return ok("decoding", f"{', '.join(FORMATS)} by {library}")


def _decodes(name: str) -> bool:
    """Encode a tone of 440 Hz and return whether it is decoded with that frequency."""
    import numpy as np
    import soundfile

    tone = np.sin(np.arange(8000) * (2 * np.pi * 440 / 8000)).astype(np.float32) / 2
    file = io.BytesIO()
    try:
        soundfile.write(file, tone, 8000, format=name.upper())
        file.seek(0)
        decoded, rate = soundfile.read(file, dtype="float32")
    except (soundfile.LibsndfileError, ValueError):
        return False
    spectrum = np.abs(np.fft.rfft(decoded))
    return rate == 8000 and abs(spectrum.argmax() * rate / decoded.size - 440) < 10
