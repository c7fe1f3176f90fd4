"""The response to `POST /classify`."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from cluster.serving.messages import Classification, WindowScores
from cluster.serving.models import ServedModel


def encode_classification(model: ServedModel, name: str, result: Classification) -> bytes:
    """Return the response as JSON, in UTF-8; takes up to a second for thousands of windows and classes.

    `name` is that of the file, without folders.
    """
    facts, classes = model.describe(), model.metadata.class_names
    order = np.argsort(-result.probabilities, kind="stable").tolist()
    image = result.image
    fields: dict[str, Any] = {
        "file": name,
        "seconds": result.seconds,
        "run": model.name,
        "multi_label": facts["multi_label"],
        "predictions": [{"label": classes[i], "probability": float(result.probabilities[i])} for i in order],
        "events": result.events,
        "warnings": result.warnings,
        "spectrogram": image
        and {
            "image": image.png,
            "seconds": image.seconds,
            "min_hz": facts["min_hz"],
            "max_hz": facts["max_hz"],
        },
    }
    if result.embedding is not None:
        fields["embedding"] = _row(result.embedding)
    windows = "null" if result.windows is None else _windows(result.windows, classes)
    return f'{_dumps(fields)[:-1]},"windows":{windows}}}'.encode()


def _windows(windows: WindowScores, classes: tuple[str, ...] | list[str]) -> str:
    fields = {
        "seconds": windows.seconds,
        "hop": windows.hop,
        "starts": windows.starts,
        "classes": list(classes),
    }
    text = f'{_dumps(fields)[:-1]},"probabilities":{_rows(windows.probabilities)}'
    if windows.embeddings is not None:
        text += f',"embeddings":{_rows(windows.embeddings)}'
    return f"{text}}}"


def _rows(values: np.ndarray) -> str:
    # Row by row: other threads, such as that of the event loop, run between calls of the encoder only.
    return f"[{','.join(_dumps(_row(row)) for row in values)}]"


def _row(values: np.ndarray) -> list[float | None]:
    return [None if math.isnan(value) else round(value, 6) for value in values.tolist()]


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
