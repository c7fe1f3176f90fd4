"""Quantization of an ONNX model: convolutions in 8-bit integers, with ranges from calibration inputs.

Static, in the QDQ form: dynamic quantization has no convolution that is faster than one in float32. Weights
use 7 bits: on CPUs without VNNI, sums of two 16-bit products of 8-bit weights overflow, and a third of the
predictions changed. Layers of the head, of few operations, remain in float32.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onnx import ModelProto

# Convolutions, products of transformers, and what is between them, which would otherwise convert to float.
OPERATORS = ["Conv", "MatMul", "Relu", "MaxPool", "Add", "Mul", "HardSwish", "HardSigmoid"]


def quantize_int8(model: ModelProto, inputs: np.ndarray) -> ModelProto:
    """Return the model with convolutions in 8-bit integers.

    Args:
        model: a model with one input.
        inputs: calibration inputs `[shape=(N, …)]`, float32, which cover the range of later ones.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    with tempfile.TemporaryDirectory() as folder:
        source, path = (Path(folder) / name for name in ("float32.onnx", "int8.onnx"))
        onnx.save(_with_preprocessing_mark(model), source)  # a model in memory would be changed
        quantize_static(
            source,
            path,
            _calibration_reader(model.graph.input[0].name, inputs),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=OPERATORS,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            nodes_to_exclude=_input_nodes(model),
        )
        return onnx.load(path)


def _input_nodes(model: ModelProto) -> list[str]:
    """Return the names of nodes that no convolution comes before, such as those of a modulation spectrum.

    They compute the input of the network, whose range in decibels or powers 8 bits cannot hold.
    """
    learned: set[str] = set()
    names = []
    for node in model.graph.node:  # in topological order
        if node.op_type == "Conv" or learned.intersection(node.input):
            learned.update(node.output)
        else:
            names.append(node.name)
    return names


def _with_preprocessing_mark(model: ModelProto) -> ModelProto:
    """Return a copy that is known as preprocessed: torch's exporter has merged norms into convolutions."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    onnx.helper.set_model_props(copy, {"onnx.quant.pre_process": "onnxruntime.quant"})
    return copy


def _calibration_reader(name: str, inputs: np.ndarray) -> object:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        """Returns one input after another, and then None."""

        def __init__(self) -> None:
            self._inputs: Iterator[np.ndarray] = iter(inputs)

        def get_next(self) -> dict[str, np.ndarray] | None:
            value = next(self._inputs, None)
            return None if value is None else {name: value[None]}

    return Reader()
