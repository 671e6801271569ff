"""Writing of ONNX files with the package onnx: weights, notes, names of tensors."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from trainkit.files import atomic_path
from trainkit.fingerprint import weights_fingerprint
from trainkit.onnx_files import FINGERPRINT_NOTE, OnnxFileError, read_metadata, require_packages
from trainkit.onnx_weights import LAYOUT_NOTE, WeightsLayout, weights_beside
from trainkit.reading import reading

if TYPE_CHECKING:
    import onnx

# Number of values from which an array is stored in half precision, where that holds it exactly.
_LEAST_HALF = 256
_HALF = "_half"


def replace_metadata(source: str | os.PathLike, target: str | os.PathLike, notes: Mapping[str, str]) -> None:
    """Writes an ONNX file again, atomically, with some notes replaced or added, and with its weights in it.

    Args:
        source: ONNX file to read, with its weights or beside them.
        target: ONNX file to write; may be the same.
        notes: Name -> text for `metadata_props`.

    Raises:
        OnnxFileError: onnx is not installed, or the file cannot be read.
        WeightsFileError: The weights beside a file without them cannot be read.
        OSError: The file cannot be written.
    """
    require_packages(["onnx"], "onnx", "Writing ONNX files")
    import onnx

    kept = read_metadata(source)
    with reading(source, "no ONNX file", OnnxFileError):
        model = onnx.load(os.fspath(source), load_external_data=False)
        layout = WeightsLayout.from_notes(kept)
    if layout is not None:
        weights = layout.read(weights_beside(source))
        stored = [each for each in model.graph.initializer if each.name not in weights]
        del model.graph.initializer[:]
        model.graph.initializer.extend(stored)
        add_weights(model.graph, weights)
        kept = {FINGERPRINT_NOTE: weights_fingerprint(weights.values()), **kept}
        del kept[LAYOUT_NOTE]
    set_notes(model, {**kept, **notes})
    with atomic_path(target) as temporary:
        temporary.write_bytes(model.SerializeToString())


def set_notes(model: onnx.ModelProto, notes: Mapping[str, str]) -> None:
    """Replaces the notes of a model.

    Args:
        model: The model.
        notes: Name -> text for `metadata_props`.
    """
    import onnx

    del model.metadata_props[:]
    onnx.helper.set_model_props(model, dict(notes))


def add_weights(graph: onnx.GraphProto, weights: Mapping[str, np.ndarray]) -> None:
    """Adds constant tensors to a graph, in half precision where that holds all values of an array exactly.

    ONNX Runtime converts them to float32 once, when it loads the file.

    Args:
        graph: Graph whose nodes read the tensors.
        weights: Name -> float32 array.
    """
    import onnx

    casts = []
    for name, array in weights.items():
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        if array.size < _LEAST_HALF or not np.array_equal(half, array):
            graph.initializer.append(onnx.numpy_helper.from_array(array, name))
            continue
        graph.initializer.append(onnx.numpy_helper.from_array(half, name + _HALF))
        casts.append(onnx.helper.make_node("Cast", [name + _HALF], [name], to=onnx.TensorProto.FLOAT))
    # Before the nodes that read them.
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def refer_to_weights(model: onnx.ModelProto, layout: WeightsLayout) -> None:
    """Adds constant tensors to a graph that are read from a weights file; see `trainkit.onnx_weights`.

    Args:
        model: Model whose nodes read the tensors.
        layout: Places of the tensors.
    """
    import onnx

    for place in layout.places:
        tensor = onnx.TensorProto(name=place.initializer, data_type=onnx.TensorProto.FLOAT, dims=place.shape)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        # ONNX demands a file; what reads it hands the values over instead.
        tensor.external_data.add(key="location", value=place.dataset)
        model.graph.initializer.append(tensor)


def name_tensors(
    graph: onnx.GraphProto, outputs: Sequence[str], dimensions: Mapping[str, Sequence[str | None]]
) -> None:
    """Gives inputs, outputs and their open dimensions names that say what they are.

    Args:
        graph: Graph whose inputs have their names, perhaps with an index of TensorFlow's behind.
        outputs: Names of the outputs, in order.
        dimensions: Name of an input or output -> names of its first dimensions; None for a fixed one.
    """
    renamed = {value.name: value.name.partition(":")[0] for value in graph.input}
    renamed |= dict(zip((value.name for value in graph.output), outputs, strict=True))
    for value in (*graph.input, *graph.output):
        value.name = renamed[value.name]
        _name_dimensions(value, dimensions.get(value.name, ()))
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]


def _name_dimensions(value: onnx.ValueInfoProto, names: Iterable[str | None]) -> None:
    for name, dimension in zip(names, value.type.tensor_type.shape.dim, strict=False):
        if name is not None:
            dimension.dim_param = name
