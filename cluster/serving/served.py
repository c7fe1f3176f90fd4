"""Models as the HTTP interface sees them: where their requests are sent, and parameters that name them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol

from fastapi import HTTPException, Query
from pydantic import AfterValidator

from cluster.serving.messages import Classification, Rejection, ServedClip, Sound
from cluster.serving.models import ServedModel
from cluster.serving.requests import SharedResults, Slots
from pipeline.data.clips import normalize_id

# Generated clips that are kept, as the page needs the sound and the image of each.
MAX_KEPT_CLIPS = 64


class ClassifierModel(Protocol):
    """A classifier that sounds are sent to."""

    async def classify(self, sound: Sound) -> Classification | Rejection:
        """Classify a sound."""


class GeneratorModel(Protocol):
    """A generator that is asked for clips."""

    async def generate(self, label: str, seed: int) -> ServedClip | Rejection:
        """Generate the clip of a class and a seed."""


@dataclass
class Served:
    """A model, with the requests that are on it."""

    model: ServedModel
    backend: Any
    slots: Slots
    clips: SharedResults[ServedClip] = field(default_factory=lambda: SharedResults(MAX_KEPT_CLIPS))


# Query parameters.
Run = Annotated[str | None, Query(description="Name of the run, as in /models (default: the first one).")]
Label = Annotated[str, AfterValidator(normalize_id), Query(description="Class.")]


class Models:
    """Models of a kind, by name."""

    def __init__(self, kind: str, served: Sequence[Served]):
        self._kind = kind
        self._served = {one.model.name: one for one in served if one.model.kind == kind}

    def find(self, name: str | None) -> Served:
        """Return a model, by default the first.

        Raises:
            HTTPException: there is none of that name.
        """
        if not self._served:
            raise HTTPException(404, f"this server has no {self._kind}")
        if name is None:
            return next(iter(self._served.values()))
        if name not in self._served:
            raise HTTPException(
                404, f"run '{name}': no such {self._kind}; available: {', '.join(self._served)}"
            )
        return self._served[name]


def check_label(model: ServedModel, label: str) -> None:
    """Raise `HTTPException` if a model has no such class."""
    if label not in model.metadata.class_names:
        raise HTTPException(422, f"label '{label}': unknown class of run {model.name}; /models lists them")
