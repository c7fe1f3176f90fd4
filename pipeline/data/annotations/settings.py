"""Settings of labels: annotations of recordings, several classes at a time, conventions of folder names."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from models.config import Config
from pipeline.io.storage import PathOrURI


class LabelConfig(Config):
    """Where the classes of clips come from."""

    multi_label: bool = False
    """Clips may have several classes or none: in a CSV those of all rows of a file, and in one row separated
    by `;`. Windows with annotated events are always labeled so."""
    annotations: Literal["auto"] | PathOrURI | None = None
    """Folder with annotation files named like the recordings in `--data`: Raven selection tables
    (`rec.Table.1.selections.txt`), Audacity labels (`rec.txt`); `auto`: they are next to the recordings. Or a
    CSV with the columns path,label,start,end."""
    label_column: str | None = None
    """Column of the classes in the CSV or in annotation files (default: label, species, annotation, common
    name or the like); or those of 0 and 1 for each class, as in `dog,rain`."""
    birdnet_folders: bool = False
    """Read names of class folders as BirdNET does: `A,B` has both classes; `-A`, noise, background, other and
    silence have none. Implies `--multi-label`."""

    @model_validator(mode="after")
    def _check_sources(self) -> LabelConfig:
        if self.annotations is not None and self.birdnet_folders:
            raise ValueError("--annotations and --birdnet-folders both give the classes: leave one out")
        return self
