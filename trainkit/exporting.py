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

from trainkit.files import atomic_path
from trainkit.onnx_files import require_packages


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
        _export(make(), inputs, temporary, "tf_saved_model")
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
    dimensions: Sequence[str] = (),
) -> None:
    """Writes an ONNX file of a network.

    Args:
        make: Function that builds the network.
        inputs: Signature of the network: one `keras.InputSpec`, or a list of several.
        path: File to write, ending in `.onnx`.
        notes: Name -> text for the file's `metadata_props`.
        outputs: Names of the outputs, in the network's order.
        dimensions: Names of the first dimensions of all inputs and outputs, which are left open; none if all are fixed.

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
        _export(make(), inputs, temporary, "onnx")
        exported = onnx.load(temporary)
        _name_tensors(exported.graph, outputs, dimensions)
        onnx.helper.set_model_props(exported, dict(notes or {}))
        try:
            onnx.checker.check_model(exported)
        except onnx.checker.ValidationError as error:
            # tf2onnx logs what it cannot convert, and writes the file nevertheless.
            raise ValueError(f"{path}: the network computes something that ONNX lacks: {error}") from error
        onnx.save(exported, temporary)


def _export(network: keras.Model, inputs: Any, path: Path, format: str) -> None:
    """Exports with Keras, without the lines that it and TensorFlow print about tracing."""
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # Keras looks for a name that NumPy has dropped.
        warnings.filterwarnings("ignore", category=FutureWarning, message=".*np.object.*")
        network.export(path, format=format, verbose=False, input_signature=[inputs])


def _name_tensors(graph: Any, outputs: Sequence[str], dimensions: Sequence[str]) -> None:
    """Gives the open dimensions and the outputs of an exported graph names that say what they are."""
    for value in (*graph.input, *graph.output):
        for name, dimension in zip(dimensions, value.type.tensor_type.shape.dim, strict=False):
            dimension.dim_param = name
    renamed = dict(zip((value.name for value in graph.output), outputs, strict=True))
    for value in graph.output:
        value.name = renamed[value.name]
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]


def _require_tensorflow() -> None:
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "Networks are exported by TensorFlow: set KERAS_BACKEND=tensorflow, which reads the same weights. "
            f"Received: {keras.backend.backend()}"
        )
