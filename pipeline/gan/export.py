"""`melray export` of a generator: one file from latent, noise and class to spectrograms in dB."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from models.exported_generator import ExportedGenerator
from pipeline.audio.mel import AMIN
from pipeline.gan.sampling import generate_mels, latents_from_seeds
from pipeline.io.errors import UserError
from pipeline.training.export.config import ExportConfig
from pipeline.training.export.metadata import as_texts, common_metadata
from pipeline.training.export.onnx_model import file_content, to_onnx
from pipeline.training.export.output_file import check_output, write_output
from pipeline.training.export.runtime import ExportedModel, milliseconds_per_call, run_onnx, run_program
from pipeline.training.export.torch_program import batch_axis, export_program, program_content
from pipeline.training.model_file import GeneratorMetadata, SavedGenerator, load_generator, model_digest

INPUTS, OUTPUTS = ("latent", "noise", "label"), ("mel",)
# Settings that only classifiers have.
CLASSIFIER_SETTINGS = ("quantize", "trim", "max_seconds", "shards", "embeddings")
# Clips of the check, each with a seed of its own.
CHECKED_CLIPS = 4


def export_generator(config: ExportConfig) -> None:
    """Write the generator of a run, check it, and print size, differences and time.

    Raises:
        UserError: an unusable run, settings that generators do not have, a missing package, or a file that
            exists.
    """
    for name in CLASSIFIER_SETTINGS:
        value = getattr(config, name)
        if value != ExportConfig.model_fields[name].default:
            flag = {"trim": "--no-trim", "embeddings": "--embeddings"}.get(name)
            flag = flag or f"--{name.replace('_', '-')} {value}"
            raise UserError(f"{flag}: {config.run} holds a generator, which is exported without; drop it")
    check_output(config)
    saved = load_generator(config.run)
    content, exported = _build(config, saved)
    write_output(config, content)
    difference, milliseconds = _check(saved, exported)
    print(f"largest difference from `melray generate`: {difference:.1e} dB ({CHECKED_CLIPS} seeds)")
    print(f"time for a spectrogram on one thread: {milliseconds:.1f} ms")
    print("the vocoder is not inside: the output is a spectrogram in dB (docs/export.md#generators)")
    print(f"model: {config.out} ({len(content) / 1e6:.1f} MB)", flush=True)


def generator_metadata(metadata: GeneratorMetadata, digest: str) -> dict[str, Any]:
    """Return the metadata of the file of a generator."""
    n_mels, num_frames = metadata.features.shape
    size = metadata.model.latent_dim
    return common_metadata(metadata, digest) | {
        "input": (
            f"latent: float32 [batch, {size}], noise: float32 [batch, {n_mels}, {num_frames}], both standard "
            "normal; label: int64 [batch], index of the class"
        ),
        "output": f"mel: float32 [batch, {n_mels}, {num_frames}], power in dB; a vocoder makes sound of it",
        "latent_dim": size,
    }


def _build(config: ExportConfig, saved: SavedGenerator) -> tuple[bytes, ExportedModel]:
    """Return the content of the file, and the model in it as a function."""
    model, features = saved.model, saved.metadata.features
    network = ExportedGenerator(model, 10 * math.log10(AMIN), features.mel.top_db).eval()
    latents = latents_from_seeds(model, [0, 1])
    example = (latents.z_BZ, latents.noise_BMT, torch.zeros(2, dtype=torch.int64))
    axes = [{0: batch_axis()}] * len(INPUTS)
    metadata = as_texts(generator_metadata(saved.metadata, model_digest(config.run)))
    if config.resolved_format == "torch":
        content = program_content(export_program(network, example, axes), metadata)
        return content, run_program(content)
    content = file_content(to_onnx(network, example, axes, INPUTS, OUTPUTS), metadata)
    return content, run_onnx(content)


def _check(saved: SavedGenerator, exported: ExportedModel) -> tuple[float, float]:
    """Return the largest difference from melray in dB, and the time for a spectrogram in milliseconds."""
    latents = latents_from_seeds(saved.model, range(CHECKED_CLIPS))
    labels = np.arange(CHECKED_CLIPS) % saved.model.num_classes
    arrays = latents.z_BZ.numpy(), latents.noise_BMT.numpy(), labels
    expected = generate_mels(saved.model, latents, labels, saved.metadata.features.mel)
    difference = float(np.abs(exported(*arrays) - expected).max())
    return difference, milliseconds_per_call(lambda: exported(*(values[:1] for values in arrays)))
