"""Classification of spectrograms on one core: the network as `predict` has it, against plain ones.

    python -m benchmarks.bench_inference

For each architecture with its default settings: the network as it is built, with weights in `channels_last`,
and with batch norms folded into the convolutions as well. Spectrograms of 5 s, batches of several sizes.
"""

from __future__ import annotations

import argparse
import copy

import torch

from benchmarks.common import save_result, summarize, summarize_ratios, timed
from models.classifier import Classifier, ClassifierConfig
from models.fold_batch_norms import fold_batch_norms
from pipeline.audio.features import FeatureConfig
from pipeline.classifier.inference import CPU_BATCH_SIZE
from pipeline.distributed.worker import disable_malloc_trim

ARCHITECTURES, CLIPS = ("cnn", "resnet-se", "mobilenet"), 64


def variants(network: Classifier) -> dict[str, Classifier]:
    """Return a network as it is built, and as it is changed for inference step by step."""
    channels_last = copy.deepcopy(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    folded = copy.deepcopy(channels_last)
    fold_batch_norms(folded)
    return {"plain": network, "channels_last": channels_last, "folded": folded}


@torch.no_grad()
def milliseconds(network: Classifier, mels_BMT: torch.Tensor, batch: int) -> float:
    """Return the time for each spectrogram."""
    seconds = timed(lambda: [network(part) for part in mels_BMT.split(batch)])
    return 1000 * seconds / len(mels_BMT)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, nargs="+", default=[CPU_BATCH_SIZE, 8, 32])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    disable_malloc_trim()
    features = FeatureConfig()
    mels_BMT = 15 * torch.randn(CLIPS, *features.shape) - 50
    results = {}
    for arch in ARCHITECTURES:
        networks = variants(Classifier(ClassifierConfig(arch=arch), features.mel.n_mels, 10).eval())
        times: dict[tuple[str, int], list[float]] = {}
        for number in range(1 + arguments.rounds):
            for batch in arguments.batches:
                for name, network in networks.items():
                    value = milliseconds(network, mels_BMT, batch)
                    if number:  # the first round has the compilation of kernels
                        times.setdefault((name, batch), []).append(value)
        results[arch] = {
            f"batch_{batch}": {
                **{f"{name}_ms": summarize(times[name, batch]) for name in networks},
                "plain_to_folded": summarize_ratios(times["plain", batch], times["folded", batch]),
            }
            for batch in arguments.batches
        }
    save_result("inference", results)


if __name__ == "__main__":
    main()
