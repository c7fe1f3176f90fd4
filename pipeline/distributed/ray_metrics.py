"""Metrics of running work, for Prometheus and Grafana, next to those of Ray (`ray.util.metrics`).

melray_clips_total       clips that batch jobs have processed, by job; its rate is clips/s
melray_train_loss, …     metrics of the newest epoch of each run, `samples_per_second` among them, by run

Setting one takes microseconds: a thread of Ray exports them. Without Ray there are none.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from pipeline.distributed.execution import uses_ray
from pipeline.distributed.ray_names import ray_name


def count_clips(job: str, clips: int) -> None:
    """Count processed clips of a batch job, such as `extracting`."""
    if uses_ray() and clips:
        _metric("Counter", "melray_clips_total", "Clips that batch jobs have processed.", "job").inc(
            clips, {"job": job}
        )


def show_epoch(run: str, metrics: Mapping[str, Any]) -> None:
    """Set the metrics of a run to those of its newest epoch; others than numbers are left out."""
    if not uses_ray():
        return
    for name, value in metrics.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            gauge = _metric("Gauge", f"melray_{name}", f"{name} of the newest epoch of a run.", "run")
            gauge.set(float(value), {"run": ray_name(run)})


@cache
def _metric(kind: str, name: str, description: str, tag: str) -> Any:
    import ray.util.metrics

    return getattr(ray.util.metrics, kind)(name, description, (tag,))
