"""Windows per second of opensoundscape with the network of a melray run, for `benchmarks/bench_windows.py`.

It decodes each window from its file, computes a log-mel spectrogram of the same size with torchaudio, and
applies the network in batches of 64: `CNN.predict` with a `TorchSpectrogramPreprocessor`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from pipeline.training.model_file import load_classifier


class MelClassifier(torch.nn.Module):
    """Network of melray for the spectrograms of opensoundscape, `[shape=(B, 1, n_mels, num_frames)]`."""

    def __init__(self, network: torch.nn.Module):
        super().__init__()
        self.network = network

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        """Return logits `[shape=(B, C)]`."""
        return self.network(mel[:, 0])


def main() -> None:
    from opensoundscape import CNN
    from opensoundscape.preprocess.preprocessors import TorchSpectrogramPreprocessor

    parser = argparse.ArgumentParser()
    parser.add_argument("--audio", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--hop", type=float, required=True)
    parser.add_argument("--workers", type=int, required=True)
    arguments = parser.parse_args()
    saved = load_classifier(arguments.run)
    features = saved.metadata.features
    model = CNN(
        architecture=MelClassifier(saved.model),
        classes=list(saved.metadata.class_names),
        sample_duration=features.seconds,
        sample_rate=features.mel.sample_rate,
        preprocessor_cls=TorchSpectrogramPreprocessor,
        spec_nfft=features.mel.n_fft,
        spec_hop_length=features.mel.hop_length,
        n_mels=features.mel.n_mels,
    )
    paths = sorted(map(str, arguments.audio.rglob("*.flac")))
    options = {"batch_size": 64, "num_workers": arguments.workers, "activation_layer": "sigmoid"}
    start_time = time.perf_counter()
    scores = model.predict(paths, clip_step=arguments.hop, progress_bar=False, **options)
    seconds = time.perf_counter() - start_time
    print(json.dumps({"windows_per_second": len(scores) / seconds}))


if __name__ == "__main__":
    main()
