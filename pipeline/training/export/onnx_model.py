"""ONNX: from torch modules to one graph, without external data, that ONNX Runtime 1.17 and later read."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import nn

from pipeline.io.errors import UserError
from pipeline.training.export.torch_program import Axes, export_program

if TYPE_CHECKING:
    from onnx import ModelProto

# ONNX Runtime 1.17 reads operators up to 20 and files up to 9; 18 and 8 belong together.
OPSET, IR_VERSION = 18, 8


def check_onnx() -> None:
    """Raise `UserError` if a package that the export needs is missing."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"--format onnx needs onnx, onnxscript and onnxruntime ({error}): pip install 'melray[export]'"
        ) from None


def to_onnx(
    module: nn.Module,
    example: tuple[Any, ...],
    axes: Sequence[Axes],
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> ModelProto:
    """Convert a module in evaluation mode.

    Args:
        module: the module.
        example: example inputs; axes that vary must be longer than one.
        axes: varying axes of each input, as for `export_program`.
        inputs: names of the inputs.
        outputs: names of the outputs.
    """
    import torch

    with _quiet_exporter():
        program = torch.onnx.export(
            export_program(module, example, axes),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            verbose=False,
        )
    assert program is not None
    model: ModelProto = program.model_proto
    _strip(model)
    names = {}
    for value, value_axes in zip(model.graph.input, axes, strict=True):
        for axis, name in value_axes.items():
            dimension = value.type.tensor_type.shape.dim[axis]
            names[dimension.dim_param] = name.__name__
    for value in [*model.graph.input, *model.graph.output]:
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_param = names[dimension.dim_param]
    return model


def join(first: ModelProto, second: ModelProto) -> ModelProto:
    """Return one model, in which the output of the first is the input of the second."""
    from onnx import compose

    names = [(first.graph.output[0].name, second.graph.input[0].name)]
    second = compose.add_prefix(second, "network.", rename_inputs=False, rename_outputs=False)
    joined: ModelProto = compose.merge_models(first, second, io_map=names)
    del joined.opset_import[1:]  # one for each of the two
    return joined


def file_content(model: ModelProto, metadata: Mapping[str, str]) -> bytes:
    """Return the content of the ONNX file of a checked model, with its metadata."""
    import onnx

    del model.metadata_props[:]
    onnx.helper.set_model_props(model, dict(metadata))
    model.producer_name, model.producer_version = "melray", metadata["melray_version"]
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content


def _strip(model: ModelProto) -> None:
    """Remove what the exporter notes about torch's code, and the shapes in between, which can be inferred."""
    model.ir_version = IR_VERSION
    graph = model.graph
    del graph.value_info[:]
    for item in [*graph.node, *graph.input, *graph.output, *graph.initializer]:
        del item.metadata_props[:]
    for node in graph.node:
        node.doc_string = ""


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Hide warnings of torch about itself and about packages that the export does not need."""
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter.setLevel(level)
