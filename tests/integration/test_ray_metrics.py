"""Metrics of running work, as Ray exports them to Prometheus."""

from __future__ import annotations

import subprocess
import sys
import urllib.request

import pytest
import ray

from pipeline.distributed.ray_metrics import count_clips, show_epoch
from tests.helpers.processes import wait_until


def exported_lines() -> list[str]:
    """Return what Ray exports about melray on this host, as Prometheus would read it."""
    (node,) = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as response:
        return [line for line in response.read().decode().splitlines() if "melray" in line]


@pytest.mark.usefixtures("ray_session")
def test_metrics_are_exported_to_prometheus() -> None:
    count_clips("counting", 3)
    count_clips("counting", 4)
    show_epoch("first", {"epoch": 2, "train_loss": 0.25, "best": True, "diversity": None})
    show_epoch("été 1", {"train_loss": 0.5})  # Ray accepts ASCII only

    def value(name: str, tag: str) -> list[float]:
        return [float(line.split()[-1]) for line in exported_lines() if name in line and tag in line]

    wait_until(lambda: value("melray_train_loss{", 'run="first"') == [0.25], 60)
    wait_until(lambda: value("melray_train_loss{", 'run="%C3%A9t%C3%A9 1"') == [0.5], 60)
    assert value("melray_clips_total{", 'job="counting"') == [7.0]
    assert value("melray_epoch{", 'run="first"') == [2.0]
    assert not value("melray_best", 'run="first"') and not value("melray_diversity", 'run="first"')


def test_without_ray_there_are_none() -> None:
    code = (
        "import sys; from pipeline.distributed.ray_metrics import *; count_clips('a', 1); "
        "show_epoch('a', {'b': 1.0}); print('ray' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
