"""Processes that lack what libraries expect: standard streams, a user name, a home folder, a terminal."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.processes import COMMAND

UID = 54321
# Reading everything replaces an installation for all users; nothing but temporary folders is writable.
AS_UNKNOWN_USER = [
    *f"setpriv --reuid {UID} --regid {UID} --clear-groups".split(),
    *"--inh-caps +dac_read_search --ambient-caps +dac_read_search".split(),
]
# Prints the home folder and where numba caches what librosa compiles at its import.
IMPORT_LIBROSA = """
from cluster.process import prepare_process
prepare_process()
import getpass, os, librosa.filters, matplotlib
print(os.path.expanduser("~"), os.environ.get("NUMBA_CACHE_DIR"), getpass.getuser())
"""

TERMINATED = """
import os, signal
from cluster import cli
cli.run = lambda arguments: os.kill(os.getpid(), signal.SIGTERM)
cli.main()
"""
DELETED_FOLDER = f"""
import sys
sys.path.insert(0, "{Path(__file__).resolve().parents[2]}")
sys.argv = ["melray", "evaluate", "--run", "run"]
from cluster.cli import main
main()
"""


@pytest.fixture
def unknown_user(tmp_path: Path) -> dict[str, str]:
    """Return an environment for `AS_UNKNOWN_USER`, whose temporary folder is the test's."""
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv")
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    tmp_path.chmod(0o777)
    names = ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME", "MELRAY_CACHE")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    return environment | {"TMPDIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}


def run_as_unknown_user(environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*AS_UNKNOWN_USER, *command], env=environment, cwd="/", capture_output=True, text=True, timeout=90
    )


@pytest.mark.parametrize("home", [None, "/", "/nowhere"])
def test_unknown_user_gets_name_and_caches(
    home: str | None, unknown_user: dict[str, str], tmp_path: Path
) -> None:
    environment = unknown_user | ({} if home is None else {"HOME": home})
    completed = run_as_unknown_user(environment, sys.executable, "-c", IMPORT_LIBROSA)
    assert (completed.returncode, completed.stderr) == (0, "")
    folder = tmp_path / f"melray-home-{UID}"
    expected_home = home if home == "/" else str(folder)
    assert completed.stdout.split() == [expected_home, str(folder / "numba_cache_dir"), f"user-{UID}"]
    assert folder.stat().st_mode & 0o777 == 0o700 and folder.stat().st_uid == UID


def test_folder_of_another_user_is_not_used(unknown_user: dict[str, str], tmp_path: Path) -> None:
    planted = tmp_path / f"melray-home-{UID}"
    planted.mkdir(mode=0o777)
    completed = run_as_unknown_user(unknown_user, sys.executable, "-c", IMPORT_LIBROSA)
    assert completed.returncode == 0 and list(planted.iterdir()) == []
    assert completed.stdout.startswith(f"{tmp_path}/melray-home-") and str(planted) not in completed.stdout


def test_doctor_works_for_unknown_user(unknown_user: dict[str, str], tmp_path: Path) -> None:
    completed = run_as_unknown_user(unknown_user, *COMMAND, "doctor", "--run", str(tmp_path))
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert "fail" not in completed.stdout and completed.stderr == ""


def test_own_home_folder_stays_unchanged(tmp_path: Path) -> None:
    environment = os.environ | {"HOME": str(tmp_path)}
    environment.pop("NUMBA_CACHE_DIR", None)
    code = IMPORT_LIBROSA.replace("librosa.filters, matplotlib", "sys")
    out = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert out.split()[:2] == [str(tmp_path), "None"]


@pytest.mark.parametrize(
    ("redirection", "arguments", "code"),
    [
        ("<&-", "--help", 0),
        (">&-", "jobs --help", 0),
        ("2>&-", "jobs --limit", 2),
        ("<&- >&- 2>&-", "--help", 0),
    ],
)
def test_closed_streams_do_not_change_the_exit_code(redirection: str, arguments: str, code: int) -> None:
    command = f"{sys.executable} -c 'from cluster.cli import main; main()' {arguments} {redirection}"
    completed = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert completed.returncode == code
    assert "Traceback" not in completed.stderr and "Exception ignored" not in completed.stderr


def test_deleted_current_folder_is_a_one_line_error(tmp_path: Path) -> None:
    command = f"mkdir gone; cd gone; rmdir ../gone; exec {sys.executable} -c '{DELETED_FOLDER}'"
    completed = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert completed.returncode == 2
    assert completed.stderr.startswith(
        "melray: error: the current folder has been deleted: change to another"
    )


def test_terminated_command_ends_like_an_interrupted_one() -> None:
    completed = subprocess.run([sys.executable, "-c", TERMINATED], capture_output=True, text=True)
    assert completed.returncode == 130
    assert completed.stderr == "\ninterrupted; run the command again to resume\n"


def test_full_output_is_a_one_line_error() -> None:
    with open("/dev/full", "wb") as full:
        completed = subprocess.run([*COMMAND, "--help"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert completed.returncode == 2
    assert completed.stderr == "melray: error: cannot write the output: No space left on device\n"


def test_error_of_a_library_is_not_called_one_of_the_output() -> None:
    """Libraries raise `OSError`, without a number, also if one is missing or a file has unknown content."""
    code = """
import cluster.cli
def fail(arguments):
    raise OSError("cannot load library 'libsndfile.so'")
cluster.cli.run = fail
cluster.cli.main()
"""
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert completed.returncode == 1
    assert completed.stderr.endswith("OSError: cannot load library 'libsndfile.so'\n")


@pytest.mark.parametrize(
    ("columns", "term"), [("0", "dumb"), ("1", ""), ("-5", "unknown"), ("1000000", "xterm")]
)
def test_help_is_printed_for_any_terminal(columns: str, term: str) -> None:
    environment = os.environ | {"COLUMNS": columns, "TERM": term, "NO_COLOR": "1"}
    completed = subprocess.run([*COMMAND, "jobs", "--help"], env=environment, capture_output=True, text=True)
    assert completed.returncode == 0 and "--limit" in completed.stdout.replace("\n", "")
    assert completed.stderr == "" and "\x1b" not in completed.stdout
