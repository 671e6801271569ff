"""Tensors of a Keras graph by name, and their values."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from mrcnn.compiled import compile_inference


def find_ancestor(tensor: Any, name: str) -> Any:
    """Finds the output of a named layer among the ancestors of a tensor.

    Args:
        tensor: A symbolic tensor of a functional model.
        name: Name of a layer, or a tensor name of the lineage's notebooks: of `ROI/pre_nms_anchors:0` the part between
            slash and colon is looked up first, then the part before the slash; the number chooses among several
            outputs.

    Returns:
        The symbolic tensor, or None if there is no such layer.
    """
    name, _, number = name.partition(":")
    candidates = (name.rsplit("/", 1)[-1], name.split("/", 1)[0])
    found: dict[str, Any] = {}
    waiting, seen = [tensor], set()
    while waiting:
        current = waiting.pop()
        history = getattr(current, "_keras_history", None)
        if history is None or id(current) in seen:
            continue
        seen.add(id(current))
        node = history.operation._inbound_nodes[history.node_index]
        if history.operation.name in candidates:
            found[history.operation.name] = node.output_tensors[int(number or 0) % len(node.output_tensors)]
        waiting.extend(node.input_tensors)
    return next((found[candidate] for candidate in candidates if candidate in found), None)


def compute_tensors(
    model: keras.Model, inputs: Sequence[np.ndarray], outputs: Sequence[tuple[str, Any]]
) -> OrderedDict[str, np.ndarray]:
    """Computes values of any tensors of a model's graph.

    Args:
        model: A functional model.
        inputs: Values of the model's inputs, in order.
        outputs: (name, symbolic tensor) pairs.

    Returns:
        The arrays by name, in order.

    Raises:
        ValueError: A tensor is None.
    """
    outputs = OrderedDict(outputs)
    for name, tensor in outputs.items():
        if tensor is None:
            raise ValueError(f"No tensor is given for {name!r}.")
    values = compile_inference(keras.Model(model.inputs, list(outputs.values())))(*inputs)
    # Keras returns a single output by itself, not in a list.
    values = values if isinstance(values, list | tuple) else [values]
    return OrderedDict((name, keras.ops.convert_to_numpy(value)) for name, value in zip(outputs, values, strict=True))
