"""`melray export` of a classifier: one file from samples to calibrated probabilities.

To be quantized, signal path and network are exported one by one and then joined: only the network is
quantized, and it is calibrated with spectrograms of the dataset, whose audio may be gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.export import Dim

from models.exported_classifier import ExportedClassifier
from pipeline.audio.signal_path import signal_path
from pipeline.classifier.export_checks import (
    describe_latency,
    describe_sounds,
    largest_differences,
    quantization_loss,
)
from pipeline.classifier.export_clips import RunClips, load_run_clips, read_sounds, synthetic_sounds
from pipeline.classifier.predictor_model import PredictorModel, load_predictor, predictor_digest
from pipeline.io.console import logger
from pipeline.io.errors import UserError
from pipeline.training.export.config import ExportConfig
from pipeline.training.export.metadata import as_texts, common_metadata
from pipeline.training.export.onnx_model import file_content, join, to_onnx
from pipeline.training.export.output_file import check_output, write_output
from pipeline.training.export.runtime import ExportedModel, run_onnx, run_program
from pipeline.training.export.torch_program import batch_axis, export_program, program_content

if TYPE_CHECKING:
    from onnx import ModelProto

# Difference of a probability, or of a value of an embedding, from which on a model is not the same.
MAX_DIFFERENCE = 1e-3


def export_classifier(config: ExportConfig) -> None:
    """Write the classifier of a run, check it, and print size, differences and time.

    Raises:
        UserError: an unusable run, a missing package, a file that exists, a network that cannot be traced, or
            with `quantize` a missing dataset.
    """
    check_output(config)
    saved = load_predictor(config.run)
    features = saved.metadata.features
    if config.max_seconds < features.seconds:
        raise UserError(
            f"--max-seconds {config.max_seconds:g}: less than a clip of the run, {features.seconds:g} s"
        )
    clips = _find_clips(config, saved)
    metadata = as_texts(classifier_metadata(config, saved))
    content, exported, result = _build(config, saved, clips, metadata)
    write_output(config, content)
    check = _check(config, saved, clips, exported)
    print("\n".join([check, *result, describe_latency(saved, exported, config.trim)]))
    print(f"model: {config.out} ({len(content) / 1e6:.1f} MB)", flush=True)


def _check(
    config: ExportConfig, saved: PredictorModel, clips: RunClips | None, exported: ExportedModel
) -> str:
    """Return the largest differences from melray in one line; warn if they are too large."""
    features = saved.metadata.features
    sounds = [] if clips is None else read_sounds(clips, features)
    synthetic = list(synthetic_sounds(features))
    differences = largest_differences(saved, exported, sounds + synthetic, config.trim)
    names = describe_sounds(len(sounds), len(synthetic), "clips" if clips is None else clips.description)
    if config.quantize is None:
        for output, difference in differences.items():
            if difference > MAX_DIFFERENCE:
                logger.warning(
                    "%s: %s differ by up to %.2g from those of melray: check them before use",
                    config.out,
                    output,
                    difference,
                )
    texts = ", ".join(f"{output} {difference:.1e}" for output, difference in differences.items())
    return f"largest difference from `melray predict`: {texts} ({names})"


def classifier_metadata(config: ExportConfig, saved: PredictorModel) -> dict[str, Any]:
    """Return the metadata of the file of a classifier."""
    metadata = saved.metadata
    trims = config.trim and metadata.features.trim_db is not None
    return common_metadata(metadata, predictor_digest(config.run)) | {
        "input": "samples: float32 [batch, num_samples], mono, full scale 1",
        "output": "probabilities: float32 [batch, classes]"
        + ("; embeddings: float32 [batch, embedding_dim]" if config.embeddings else ""),
        "embedding_dim": saved.model.embedding_dim if config.embeddings else None,
        "max_seconds": config.max_seconds,
        "trim_db": metadata.features.trim_db if trims else None,
        "multi_label": metadata.multi_label,
        "thresholds": metadata.class_thresholds().tolist() if metadata.multi_label else None,
        "models": saved.members,
        "quantization": config.quantize,
    }


def _find_clips(config: ExportConfig, saved: PredictorModel) -> RunClips | None:
    """Return clips of the run; without its dataset None, unless they are needed."""
    try:
        return load_run_clips(config, saved.metadata.features)
    except UserError as error:
        if config.quantize is not None or config.shards is not None:
            raise
        logger.info("checked with synthetic sounds only: %s", error)
        return None


def _build(
    config: ExportConfig, saved: PredictorModel, clips: RunClips | None, metadata: Mapping[str, str]
) -> tuple[bytes, ExportedModel, list[str]]:
    """Return the content of the file, the model in it as a function, and lines to print."""
    parts = ClassifierParts(config, saved)
    with _report_tracing():
        if config.resolved_format == "torch":
            content = parts.program(metadata)
            return content, run_program(content), []
        if config.quantize is None:
            content = file_content(parts.onnx(), metadata)
            return content, run_onnx(content), []
        signal, network = parts.separate_onnx()
    assert clips is not None
    quantized, loss = _quantize(saved, clips, network)
    content = file_content(join(signal, quantized), metadata)
    return content, run_onnx(content), [loss]


def _quantize(saved: PredictorModel, clips: RunClips, network: ModelProto) -> tuple[ModelProto, str]:
    """Return a network in 8-bit integers, and the loss by that as a line to print."""
    from pipeline.training.export.quantization import quantize_int8

    mels = np.asarray(clips.dataset.mels[clips.calibration], np.float32)
    quantized = quantize_int8(network, mels)
    runs = [run_onnx(model.SerializeToString()) for model in (network, quantized)]
    return quantized, quantization_loss(saved, clips, *runs).describe(clips.description)


class ClassifierParts:
    """Signal path and network of a classifier, to be exported together or one by one."""

    def __init__(self, config: ExportConfig, saved: PredictorModel):
        features = saved.metadata.features
        self._signal = signal_path(features, config.trim)
        self._network = ExportedClassifier(saved.model, config.embeddings).eval()
        max_samples = round(config.max_seconds * features.mel.sample_rate)
        self._sample_axes = [{0: batch_axis(), 1: Dim("num_samples", min=1, max=max_samples)}]
        self._samples = (torch.zeros(2, features.num_samples + 1),)
        self._mels = (torch.zeros(2, *features.shape),)

    @property
    def _model(self) -> nn.Module:
        return nn.Sequential(self._signal, self._network).eval()

    def program(self, metadata: Mapping[str, str]) -> bytes:
        """Return the content of a file of `torch.export`."""
        return program_content(export_program(self._model, self._samples, self._sample_axes), metadata)

    def onnx(self) -> ModelProto:
        """Return both as one ONNX model."""
        return to_onnx(self._model, self._samples, self._sample_axes, ["samples"], self._network.output_names)

    def separate_onnx(self) -> tuple[ModelProto, ModelProto]:
        """Return signal path and network as ONNX models."""
        return (
            to_onnx(self._signal, self._samples, self._sample_axes, ["samples"], ["mel"]),
            to_onnx(self._network, self._mels, [{0: batch_axis()}], ["mel"], self._network.output_names),
        )


@contextmanager
def _report_tracing() -> Iterator[None]:
    """Convert errors of torch's tracing and of the ONNX exporter, of many kinds, to one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UserError(f"the network cannot be exported ({type(error).__name__}: {reason})") from error
