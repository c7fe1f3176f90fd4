"""Looks at this machine: what is installed, and what there is of processors, memory and disk."""

from __future__ import annotations

import io
import os
import platform
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from cluster.doctor.check import Check, fail, ok, warn

GIB = 2**30
FORMATS = ("wav", "flac", "ogg", "mp3")


def check_machine(project: Path, runs: Path) -> Iterator[Check]:
    """All of it; `project` holds pyproject.toml, `runs` is where results go."""
    yield from check_packages((project / "pyproject.toml").read_text())
    yield check_cpus()
    yield check_memory(psutil.virtual_memory().total, psutil.virtual_memory().available)
    if Path("/dev/shm").is_dir():
        yield check_shared_memory(shutil.disk_usage("/dev/shm").free, psutil.virtual_memory().total)
    yield check_gpu()
    yield check_disk(runs)
    yield check_decoding()


def check_packages(pyproject: str) -> Iterator[Check]:
    """Python and the packages, against what melray says it needs."""
    project = tomllib.loads(pyproject)["project"]
    python = platform.python_version()
    if python in SpecifierSet(project["requires-python"]):
        yield ok("python", f"{python}, {sys.executable}")
    else:
        yield fail(
            "python",
            f"{python}, melray needs {project['requires-python']}",
            "make a new environment: make PYTHON=python3.11 setup",
        )
    wrong, found = [], {}
    for need in map(Requirement, project["dependencies"]):
        try:
            found[need.name] = version(need.name)
        except PackageNotFoundError:
            wrong.append(f"{need.name} is missing")
            continue
        if not need.specifier.contains(found[need.name], prereleases=True):
            wrong.append(f"{need.name} {found[need.name]} is not {need.specifier}")
    if wrong:
        yield fail("packages", "; ".join(wrong), "pip install --constraint constraints.txt --editable .")
    else:
        yield ok(
            "packages",
            f"{len(found)} as needed; ray {found.get('ray')}, torch {found.get('torch')}, numpy {found.get('numpy')}",
        )


def check_cpus() -> Check:
    """Processors, and how busy they are."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    load = os.getloadavg()[0]
    found = f"{count}, load {load:.1f}"
    return (
        ok("CPUs", found)
        if load < 1.5 * count
        else warn("CPUs", found, "other programs take them: what runs now will be slow")
    )


def check_memory(total: int, available: int) -> Check:
    """Memory that is free."""
    found = f"{available / GIB:.1f} of {total / GIB:.1f} GiB free"
    if available < 2 * GIB:
        return warn(
            "memory", found, "Ray and one worker take 2 GiB: close something, or use a larger machine"
        )
    return ok("memory", found)


def check_shared_memory(free: int, memory: int) -> Check:
    """Whether Ray's object store, by default three tenths of the memory, has its place."""
    found = f"{free / GIB:.1f} GiB free in /dev/shm"
    if free < 0.3 * memory:
        return warn(
            "shared memory",
            found,
            f"too small for Ray's object store, which is then slow: docker run --shm-size={0.33 * memory / GIB:.0f}g",
        )
    return ok("shared memory", found)


def check_gpu() -> Check:
    """The GPUs that torch can use, by a small product in bfloat16."""
    import torch

    driver = _driver()
    if not torch.cuda.is_available():
        if driver:
            return fail(
                "GPUs",
                f"driver {driver}, but torch {torch.__version__} can't use it",
                "install a torch built for CUDA, and a driver it accepts",
            )
        return ok("GPUs", "none; trainings use the CPUs")
    count = torch.cuda.device_count()
    found = (
        f"{count} × {torch.cuda.get_device_name(0)}, driver {driver or 'unknown'}, CUDA {torch.version.cuda}"
    )
    try:
        wrong = [index for index in range(count) if not _matmul_is_correct(index)]
    except RuntimeError as error:
        return fail(
            "GPUs",
            f"{found}: {str(error).splitlines()[0]}",
            "see that no other program fills the GPU, and that nvidia-smi works",
        )
    if wrong:
        return fail("GPUs", f"{found}: GPU {wrong[0]} computes wrongly", "reset or replace it")
    return ok("GPUs", f"{found}, bf16 works")


def _matmul_is_correct(index: int) -> bool:
    import torch

    a = torch.linspace(-1, 1, 256 * 256).reshape(256, 256)
    there = a.to(f"cuda:{index}", torch.bfloat16)
    # Eight bits of mantissa: inputs and result are each off by up to 1/256.
    return torch.allclose((there @ there.T).float().cpu(), a @ a.T, rtol=0.02, atol=0.5)


def _driver() -> str:
    if shutil.which("nvidia-smi") is None:
        return ""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return (
            subprocess.run(query, capture_output=True, text=True, timeout=20)
            .stdout.strip()
            .partition("\n")[0]
        )
    except subprocess.TimeoutExpired:
        return "unknown (nvidia-smi hangs)"


def check_disk(folder: Path) -> Check:
    """Room where results go."""
    place = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(place).free
    found = f"{free / GIB:.1f} GiB free for {folder}"
    if not os.access(place, os.W_OK):
        return fail("disk", f"{place} can't be written to", "choose another folder for --run and --out")
    if free < GIB // 2:
        return fail("disk", found, "make room: checkpoints alone can take more")
    return (
        ok("disk", found)
        if free > 5 * GIB
        else warn("disk", found, "shards, checkpoints and generated sounds may fill it")
    )


def check_decoding() -> Check:
    """Whether the formats that sounds come in can be read; no other program is needed for it."""
    import soundfile

    bad = [name for name in FORMATS if not _decodes(name)]
    library = f"soundfile {soundfile.__version__}, libsndfile {soundfile.__libsndfile_version__}"
    if bad:
        return fail(
            "decoding",
            f"{library} can't read {', '.join(bad)}",
            "pip install --upgrade soundfile (its wheel brings libsndfile)",
        )
    return ok("decoding", f"{', '.join(FORMATS)} by {library}")


def _decodes(name: str) -> bool:
    import numpy as np
    import soundfile

    tone = np.sin(np.arange(8000) * (2 * np.pi * 440 / 8000)).astype(np.float32) / 2
    file = io.BytesIO()
    try:
        soundfile.write(file, tone, 8000, format=name.upper())
        file.seek(0)
        heard, rate = soundfile.read(file, dtype="float32")
    except (soundfile.LibsndfileError, ValueError):
        return False
    spectrum = np.abs(np.fft.rfft(heard))
    return rate == 8000 and abs(spectrum.argmax() * rate / heard.size - 440) < 10
