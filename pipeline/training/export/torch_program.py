"""Programs of `torch.export`: graphs of torch's own operators, which torch loads without melray's code."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram, export, save

# Name under which `torch.export.load` returns the metadata in `extra_files`, as JSON.
METADATA_NAME = "metadata.json"
MAX_BATCH_SIZE = 4096
# Varying axes of an input, by number.
Axes = Mapping[int, Dim]


def batch_axis() -> Dim:
    """Return the axis of the clips of a batch, of any number up to 4096."""
    return Dim("batch", min=1, max=MAX_BATCH_SIZE)


def export_program(module: nn.Module, example: tuple[Any, ...], axes: Sequence[Axes]) -> ExportedProgram:
    """Trace a module in evaluation mode.

    Args:
        module: the module. Parameters of the program, copies, require no gradients: the output would else
            refuse `.numpy()`, and a call would keep what a backward pass needs. They are in the usual order,
            not `channels_last`, which torch saves with a warning.
        example: example inputs; axes that vary must be longer than one.
        axes: varying axes of each input; the program refuses lengths out of their range.
    """
    copied = copy.deepcopy(module).requires_grad_(False)
    with torch.no_grad():
        return export(
            copied.to(memory_format=torch.contiguous_format),  # type: ignore[call-overload]
            example,
            dynamic_shapes=tuple(dict(value) for value in axes),
            strict=False,
        )


def program_content(program: ExportedProgram, metadata: Mapping[str, str]) -> bytes:
    """Return the content of the file of a program (`.pt2`), with its metadata."""
    file = io.BytesIO()
    save(program, file, extra_files={METADATA_NAME: json.dumps(dict(metadata), ensure_ascii=False)})
    return file.getvalue()
