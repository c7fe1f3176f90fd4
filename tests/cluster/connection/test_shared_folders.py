"""Settings of a command that are checked on other hosts; the check: integration/test_shared_folders.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.connection.shared_folders import _probes, local_paths
from cluster.jobs.package import project_root
from pipeline.extract import ExtractConfig


def test_local_paths_are_those_of_a_file_system() -> None:
    config = ExtractConfig(data="s3://sounds/all", out=Path("shards"))  # type: ignore[arg-type]
    assert local_paths(config) == {"--out": Path("shards").absolute()}


def test_files_sent_with_a_job_are_no_local_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    config = ExtractConfig(data=project_root() / "list.csv", out=Path("/shared/shards"))
    assert local_paths(config) == {"--out": Path("/shared/shards")}


def test_probe_of_an_output_is_a_file_that_is_deleted(tmp_path: Path) -> None:
    paths = {"--data": tmp_path, "--out": tmp_path / "new" / "shards", "--shards": tmp_path / "missing"}
    with _probes(paths) as probes:
        assert probes.keys() == {"--data", "--out"} and probes["--data"] == str(tmp_path)
        assert Path(probes["--out"]).parent == tmp_path and Path(probes["--out"]).is_file()
    assert not list(tmp_path.iterdir())
