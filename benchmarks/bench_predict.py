"""Prediction: the batch job against a plain loop over the same files in one process.

python -m benchmarks.bench_predict --audio FOLDER_OF_CLASS_FOLDERS --run RUN

The loop predicts in float32, melray in float32 and with `--precision bf16`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import convert_to_wav, save_result, summarize, summarize_ratios, timed
from cluster.connection.session import session
from pipeline.audio.features import load_clip, spectrogram
from pipeline.classifier.inference import predict_probabilities
from pipeline.classifier.predict import PredictConfig, predict
from pipeline.classifier.predictor_model import PredictorModel, load_predictor
from pipeline.distributed.worker import disable_malloc_trim


def plain_loop(saved: PredictorModel, paths: list[Path]) -> None:
    """Compute features and predictions, 32 files per batch, on one core."""
    features = saved.metadata.features
    for start in range(0, len(paths), 32):
        mels = np.stack(
            [spectrogram(load_clip(path, features), features) for path in paths[start : start + 32]]
        )
        predict_probabilities(saved.model, mels)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--audio", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--repeat", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    disable_malloc_trim()
    saved = load_predictor(arguments.run)
    rates: dict[str, list[float]] = {"melray": [], "melray_bf16": [], "plain_one_core": []}
    with tempfile.TemporaryDirectory() as name, session():
        audio = convert_to_wav(arguments.audio, Path(name) / "wav", arguments.repeat)
        paths = sorted(audio.rglob("*.wav"))
        for _ in range(arguments.rounds):
            for key, precision in (("melray", "fp32"), ("melray_bf16", "bf16")):
                config = PredictConfig(
                    run=arguments.run, audio=audio, out=Path(name) / "out", precision=precision
                )
                shutil.rmtree(config.out, ignore_errors=True)
                # End to end within a running session: worker startup and model loading included.
                rates[key].append(len(paths) / timed(lambda: predict(config)))  # noqa: B023
            subset = paths[:: arguments.repeat]
            rates["plain_one_core"].append(len(subset) / timed(lambda: plain_loop(saved, subset)))  # noqa: B023
    cores = os.cpu_count() or 1
    limit = [cores * rate for rate in rates["plain_one_core"]]
    metrics = {f"{name}_clips_per_second": summarize(values) for name, values in rates.items()}
    ratios = {
        f"{name}_to_plain_times_cores": summarize_ratios(rates[name], limit)
        for name in rates
        if name != "plain_one_core"
    }
    save_result("predict", {"clips": len(paths), **metrics, **ratios})


if __name__ == "__main__":
    main()
