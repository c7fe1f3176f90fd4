"""Settings of `melray export`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from models.config import Config
from pipeline.io.storage import PathOrURI

ExportFormat = Literal["onnx", "torch"]
ENDINGS: dict[str, ExportFormat] = {".onnx": "onnx", ".pt2": "torch"}


class ExportConfig(Config):
    """Write a trained model as one file that needs no melray: a classifier from samples to probabilities, or
    a generator from latent and class to spectrograms."""

    run: PathOrURI
    """Run folder of a classifier or GAN; also that of an ensemble or a cross-validation, whose models then
    predict together."""
    out: PathOrURI
    """File to write, such as model.onnx or model.pt2."""
    format: ExportFormat | None = None
    """onnx: for ONNX Runtime and other runtimes; torch: a program of torch.export (default: by the ending of
    --out, .onnx or .pt2)."""
    quantize: Literal["int8"] | None = None
    """int8: convolutions of a classifier in 8-bit integers, calibrated on clips of the training data; a
    quarter of the size (ONNX only)."""
    trim: bool = True
    """Classifiers: trim silence at both ends as the run does, inside of the model; without, the model takes
    all samples as they are, such as windows of recordings."""
    max_seconds: float = Field(600.0, gt=0, le=86_400)
    """Classifiers: maximum length of the input in seconds; longer ones than a clip are cropped to their
    center."""
    embeddings: bool = False
    """Classifiers: add a second output, the clip embedding of each sound, as `predict --embeddings`."""
    shards: PathOrURI | None = None
    """Classifiers: the run's own shards, if they have been moved since training; some of their clips are used
    to check and to quantize the model."""
    overwrite: bool = False
    """Replace an existing file."""

    @property
    def resolved_format(self) -> ExportFormat:
        """The format, as set or by the ending of the file."""
        return self.format or ENDINGS[self.out.suffix.lower()]

    @model_validator(mode="after")
    def _check_ending(self) -> Self:
        if self.format is None and self.out.suffix.lower() not in ENDINGS:
            raise ValueError(f"--out {self.out}: must end with .onnx or .pt2, or add --format onnx or torch")
        return self

    @model_validator(mode="after")
    def _check_quantize(self) -> Self:
        if self.quantize is not None and self.resolved_format != "onnx":
            raise ValueError(f"--quantize {self.quantize}: only of --format onnx; drop it, or change --out")
        return self
