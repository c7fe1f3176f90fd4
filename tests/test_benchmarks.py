"""Benchmarks can be imported, and the statistics of their results are right."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

import benchmarks

NAMES = sorted(path.stem for path in Path(benchmarks.__file__).parent.glob("*.py") if path.stem[0] != "_")
PROJECT = ("benchmarks", "cluster", "melray", "models", "pipeline", "tune")


@pytest.mark.parametrize("name", NAMES)
def test_benchmark_is_importable(name: str) -> None:
    try:
        importlib.import_module(f"benchmarks.{name}")
    except ModuleNotFoundError as error:
        if str(error.name).split(".")[0] in PROJECT:
            raise
        pytest.skip(f"needs {error.name}")


def test_gain_is_tested_by_folds() -> None:
    from benchmarks.bench_gain import gain

    base = {(fold, seed): 0.9 for fold in range(1, 6) for seed in (1, 2)}
    # Sums of +-2, +-2, +-2, +-1.5 and +-1.5 that are at least 3 from 0: 14 of 32.
    scores = {key: value + (0.02 if key[0] <= 3 else -0.015) for key, value in base.items()}
    mixed = gain(scores, base)
    assert mixed["mean"] == pytest.approx(0.006) and mixed["p"] == 14 / 32
    better = gain({key: value + 0.01 for key, value in base.items()}, base)
    assert better["mean"] == pytest.approx(0.01) and better["p"] == pytest.approx(2 / 32)
    assert gain(base, base) == {"mean": 0.0, "p": 1.0}
