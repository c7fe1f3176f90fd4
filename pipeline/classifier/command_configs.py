"""Settings of the commands that evaluate, combine and show trained classifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from tyro.conf import Positional

from models.config import Config, as_tuple
from pipeline.data.windows import MIN_HOP
from pipeline.distributed.devices import Device
from pipeline.io.storage import PathOrURI
from pipeline.training.trackers.names import TENSORBOARD, TrackerNames


class EvaluateConfig(Config):
    """Evaluate a classifier on labeled clips, or a generator by the clips it generates."""

    run: PathOrURI
    """Run folder; with --shards and --out also that of a cross-validation, whose models predict together."""
    shards: PathOrURI | None = None
    """Evaluate on these shards: new clips, or the run's own data that has been moved (generators: only
    this)."""
    split: Literal["auto", "validation", "held-out", "all"] = "auto"
    """Clips to evaluate on: auto is the held-out fold if there is one, else the validation clips; of new
    clips, all that the run was not trained on."""
    tta_shifts: int = Field(1, ge=1, le=64)
    """Test-time augmentation: circular time shifts to average over."""
    clips_per_class: int | None = Field(None, ge=2)
    """Generators only: clips to generate and score per class (default: 30, fewer of more than 500
    classes)."""
    reference_run: PathOrURI | None = None
    """Generators only: run of a classifier whose embeddings and predictions score the generated clips
    (default: one that is trained on the training clips of the generator)."""
    out: PathOrURI | None = None
    """Folder for evaluation.json, confusion.csv and report.html (default: the run folder)."""
    device: Device = "auto"
    """Device of the computation: auto is a GPU if there is one; cpu; or cuda, a GPU."""
    log_to: TrackerNames = ()
    """Trackers that get the results, mlflow, wandb or both: in the run of the training if they have it."""

    @model_validator(mode="after")
    def _check_log_to(self) -> Self:
        if TENSORBOARD in self.log_to:
            raise ValueError(
                "--log-to tensorboard: TensorBoard shows the epochs of a training run; results of an "
                "evaluation are in evaluation.json and report.html, or choose mlflow, wandb"
            )
        if self.log_to and self.out is not None:
            raise ValueError(f"--log-to sends the results in the run folder: drop --out {self.out}")
        return self


class EnsembleConfig(Config):
    """Combine trained classifiers into one run, whose probabilities are the mean of theirs. `predict`,
    `evaluate`, `show`, `serve` and `export` use it like any other."""

    members: Annotated[tuple[PathOrURI, ...], BeforeValidator(as_tuple), Field(min_length=2)]
    """Run folders of classifiers, ensembles or cross-validations with the same classes and spectrogram
    settings. Their models are copied."""
    run: PathOrURI
    """Folder of the new run; an ensemble in it is replaced."""
    shards: PathOrURI | None = None
    """Labeled clips on which the mean is calibrated and evaluated, without those that a member was trained on
    or that are its held-out fold (default: those of the first member that are still there)."""
    device: Device = "auto"
    """Device of the computation: auto is a GPU if there is one; cpu; or cuda, a GPU."""


class ShowConfig(Config):
    """Write a page to look at and listen to a recording: spectrogram, player, detected events and class
    probabilities over time."""

    recording: Annotated[PathOrURI, Positional]
    """Audio file, of any length; or the path of one inside a Parquet file, as in the tables of `predict`."""
    run: PathOrURI
    """Folder of a trained classifier, or of a cross-validation, whose models then predict together."""
    out: PathOrURI = Path("show.html")
    """HTML file to write."""
    hop: float | None = Field(None, ge=MIN_HOP)
    """Seconds between the starts of windows, which are as long as the model's clips (default: half)."""
    threshold: float | None = Field(None, ge=0, le=1)
    """Probability from which on a class is an event (default: those of the model, or 0.5)."""
    annotations: PathOrURI | None = None
    """True events, shown for comparison: a Raven selection table, an Audacity label file, or a CSV with the
    columns path,label,start,end."""
    max_audio_mb: float = Field(20.0, ge=0, le=500)
    """Put the compressed audio into the page up to this size in MB (an hour takes about 14); of a longer
    recording that of the events, and the page plays the file itself as long as that is at the same path.
    0 never puts it in. Above 24 MB all of the audio is a file next to the page."""
    device: Device = "auto"
    """Device of the computation: auto is a GPU if there is one; cpu; or cuda, a GPU."""
