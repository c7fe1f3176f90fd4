"""What the benchmarks share: sounds to work on, hardware, and the file of a result."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import soundfile

RESULTS = Path(__file__).parent / "results"


def as_wav(source: Path, out: Path, repeat: int = 1) -> Path:
    """All files below `source` as 16-bit wav below `out/<class>`; each `repeat` times, by hard links."""
    done = out / ".complete"
    if done.is_file():
        return out
    for path in sorted(p for p in source.rglob("*") if p.suffix in (".ogg", ".wav", ".flac")):
        folder = out / path.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        first = folder / f"{path.stem}.wav"
        samples, rate = soundfile.read(path, dtype="int16")
        soundfile.write(first, samples, rate, subtype="PCM_16")
        for number in range(1, repeat):
            os.link(first, folder / f"{path.stem}-{number:03d}.wav")
    done.touch()
    return out


def seconds(work: Callable[[], Any]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and greatest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def held_out_scores(run: Path) -> dict[str, Any]:
    """What a run's model scores on the fold that its training did not see, without writing it into the run."""
    from models.metrics import classification_metrics
    from pipeline.classifier.evaluate import EvaluateConfig, predict_rows, select_rows
    from pipeline.training.model_file import load_classifier

    saved = load_classifier(run)
    rows, index, _ = select_rows(EvaluateConfig(run=run, split="held-out"), saved)
    scored = predict_rows(saved, rows, index, 1)
    return classification_metrics(scored.probabilities, scored.labels, list(saved.card.class_names))


def hardware() -> dict[str, Any]:
    """What the figures were measured on."""
    import numpy
    import ray
    import torch

    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        "",
    )
    return {
        "cpu": model or platform.processor(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "ray": ray.__version__,
        "numpy": numpy.__version__,
    }


def save(name: str, result: dict[str, Any]) -> None:
    """Writes `results/<name>.json` with the command, the hardware and the date, and prints it."""
    RESULTS.mkdir(exist_ok=True)
    arguments = [Path(a).name if os.sep in a else a for a in sys.argv[1:]]
    command = f"python -m benchmarks.{Path(sys.argv[0]).stem} {' '.join(arguments)}".strip()
    full = {"date": time.strftime("%Y-%m-%d"), "command": command, "hardware": hardware(), **result}
    (RESULTS / f"{name}.json").write_text(json.dumps(full, indent=1) + "\n")
    print(json.dumps(result, indent=1))
