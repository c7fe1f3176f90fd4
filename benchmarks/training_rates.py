"""Rate of training by melray against a loop without it, in alternating rounds and separate processes."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.common import save_result, summarize, summarize_ratios
from cluster.connection.session import session

# Returns steps or samples per second; called with a dataset, the number of epochs, and that of threads.
Measure = Callable[[Path, int, int], float]


def compare_rates(name: str, unit: str, melray: Measure, baseline: str, measure_baseline: Measure) -> None:
    """Run the command line of a benchmark `bench_<name>`, and save its result.

    Args:
        name: name of the benchmark and its result.
        unit: what is counted per second, such as `steps`.
        melray: measures melray.
        baseline: name of the loop that it is compared with, also as a flag that runs only this loop.
        measure_baseline: measures that loop.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        f"--{baseline}",
        dest="only_baseline",
        action="store_true",
        help=f"run only the {baseline} loop and print its rate",
    )
    arguments = parser.parse_args()
    threads = os.cpu_count() or 1
    if arguments.only_baseline:
        print(measure_baseline(arguments.shards, arguments.epochs, threads))
        return
    # In a separate process, like melray's workers.
    command = [sys.executable, "-m", f"benchmarks.bench_{name}", f"--{baseline}"]
    command += ["--shards", str(arguments.shards), "--epochs", str(arguments.epochs)]
    rates: dict[str, list[float]] = {"melray": [], baseline: []}
    with session():
        for _ in range(arguments.rounds):
            rates["melray"].append(melray(arguments.shards, arguments.epochs, threads))
            out = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8")
            rates[baseline].append(float(out.stdout.split()[-1]))
    result = {f"{arm}_{unit}_per_second": summarize(values) for arm, values in rates.items()}
    ratios = summarize_ratios(rates["melray"], rates[baseline])
    save_result(name, result | {f"melray_to_{baseline}": ratios})
