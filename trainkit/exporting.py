"""Export of a Keras network to TensorFlow's SavedModel and to ONNX."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from trainkit.files import atomic_path
from trainkit.onnx_files import require_packages
from trainkit.onnx_weights import LAYOUT_NOTE
from trainkit.onnx_writing import add_weights, name_tensors, refer_to_weights, set_notes
from trainkit.tagged_weights import tagged_layout


def export_savedmodel(
    make: Callable[[], keras.Model], inputs: Any, folder: str | os.PathLike, notes: Mapping[str, str] | None = None
) -> None:
    """Writes a SavedModel, whose function `serve` maps the inputs to the network's outputs.

    Args:
        make: Function that builds the network.
        inputs: Signature of the network: one `keras.InputSpec`, or a list of several.
        folder: New folder to write; appears when it is complete.
        notes: Name -> text of files in the folder's `assets.extra`, where SavedModels keep what TensorFlow ignores.

    Raises:
        ValueError: The backend is another one than TensorFlow, or the folder exists.
        OSError: The folder cannot be written.
    """
    _require_tensorflow()
    folder = Path(folder)
    if folder.exists():
        raise ValueError(f"{folder}: exists. Name a new folder for the SavedModel.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        with warnings.catch_warnings():
            # Keras looks for a name that NumPy has dropped.
            warnings.filterwarnings("ignore", category=FutureWarning, message=".*np.object.*")
            make().export(temporary, format="tf_saved_model", verbose=False, input_signature=[inputs])
        extra = temporary / "assets.extra"
        extra.mkdir()
        for name, text in (notes or {}).items():
            (extra / name).write_text(text, encoding="utf-8")
        temporary.chmod(0o755)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def export_onnx(
    make: Callable[[], keras.Model],
    inputs: Any,
    path: str | os.PathLike,
    notes: Mapping[str, str] | None = None,
    *,
    outputs: Sequence[str],
    dimensions: Mapping[str, Sequence[str | None]],
    tags: Mapping[int, str] | None = None,
) -> None:
    """Writes an ONNX file of a network: its graph, and its weights as they are, or the places of the weights.

    What can be computed beforehand, such as kernels that batch norm is folded into, ONNX Runtime computes when it
    loads the file; so the file takes no more room than the weights.

    Args:
        make: Function that builds the network.
        inputs: Signature of the network: one `keras.InputSpec`, or a list of several.
        path: File to write, ending in `.onnx`.
        notes: Name -> text for the file's `metadata_props`.
        outputs: Names of the outputs, in the network's order.
        dimensions: Name of an input or output -> names of its first dimensions that are left open; None for a fixed
            one.
        tags: For a file of the graph alone, beside its weights file: datasets of that file by the value that the
            network's weights are filled with; see `trainkit.tagged_weights`.

    Raises:
        ValueError: The backend is another one than TensorFlow, a package of the extra "export" is missing, the name
            ends otherwise, or a part of the network has no equivalent in ONNX.
        OSError: The file cannot be written.
    """
    _require_tensorflow()
    if Path(path).suffix != ".onnx":
        raise ValueError(f"{path}: an exported ONNX file ends in .onnx.")
    require_packages(["onnx", "tf2onnx"], "export", "Export to ONNX")
    import onnx

    with atomic_path(path) as temporary:
        network = make()
        exported, weights = _convert(network, inputs if isinstance(inputs, list) else [inputs])
        name_tensors(exported.graph, outputs, dimensions)
        notes = dict(notes or {})
        try:
            onnx.checker.check_model(exported)
        except onnx.checker.ValidationError as error:
            # tf2onnx logs what it cannot convert, and writes the file nevertheless.
            raise ValueError(f"{path}: the network computes something that ONNX lacks: {error}") from error
        for value in [value for value in exported.graph.input if value.name in weights]:
            exported.graph.input.remove(value)
        if tags is None:
            add_weights(exported.graph, weights)
        else:
            layout = tagged_layout(weights, tags)
            refer_to_weights(exported, layout)
            notes[LAYOUT_NOTE] = layout.to_note()
        set_notes(exported, notes)
        onnx.save(exported, temporary)


def _convert(network: keras.Model, inputs: Sequence[keras.InputSpec]) -> tuple[Any, dict[str, np.ndarray]]:
    """Converts a network with its weights as further inputs of the graph; returns it, and the weights by name.

    As constants they would be folded in TensorFlow, into arrays that half precision does not hold.
    """
    import tensorflow as tf
    import tf2onnx

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    variables = {f"weight_{index}": variable for index, variable in enumerate(network.weights)}
    names = [spec.name for spec in inputs]
    signature = [tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in zip(names, inputs, strict=True)]
    signature += [tf.TensorSpec(variable.shape, variable.dtype, name) for name, variable in variables.items()]

    @tf.function(input_signature=signature, autograph=False)
    def compute(*tensors: Any) -> Any:
        shown, weights = tensors[: len(names)], tensors[len(names) :]
        with keras.StatelessScope(state_mapping=list(zip(variables.values(), weights, strict=True))):
            return network(shown[0] if len(shown) == 1 else list(shown), training=False)

    with warnings.catch_warnings():
        # tf2onnx looks for a name that NumPy has dropped.
        warnings.filterwarnings("ignore", category=FutureWarning, message=".*np.object.*")
        exported, _ = tf2onnx.convert.from_function(compute, signature)
    return exported, {name: keras.ops.convert_to_numpy(variable) for name, variable in variables.items()}


def _require_tensorflow() -> None:
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "Networks are exported by TensorFlow: set KERAS_BACKEND=tensorflow, which reads the same weights. "
            f"Received: {keras.backend.backend()}"
        )
