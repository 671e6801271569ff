"""Export of a U-Net's forward pass: TensorFlow's SavedModel and ONNX, both for inputs of any size."""

from __future__ import annotations

import copy
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path

import keras

from trainkit.checkpoint import synchronise
from trainkit.files import atomic_path
from trainkit.onnx_files import require_packages
from unet.architecture import build_unet
from unet.model import UNet

# Names of the exported network's input and output.
INPUT, OUTPUT = "image", "probabilities"
# Names of the dimensions in an ONNX file; height and width are multiples of the network's stride.
_DIMENSIONS = ("batch", "height", "width")


def inference_network(model: UNet) -> keras.Model:
    """Returns a copy of a U-Net's network that computes in float32, whatever its PRECISION.

    Args:
        model: The U-Net.
    """
    synchronise(model.keras_model)
    config = copy.copy(model.config)
    config.PRECISION = "float32"
    network = build_unet(config)
    network.set_weights(model.keras_model.get_weights())
    return network


def export_savedmodel(model: UNet, folder: str | os.PathLike, notes: Mapping[str, str] | None = None) -> None:
    """Writes a SavedModel, whose function `serve` maps float32 `[B, H, W, C]` to probabilities.

    Args:
        model: The U-Net.
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
        _export(inference_network(model), temporary, "tf_saved_model")
        extra = temporary / "assets.extra"
        extra.mkdir()
        for name, text in (notes or {}).items():
            (extra / name).write_text(text, encoding="utf-8")
        temporary.chmod(0o755)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def export_onnx(model: UNet, path: str | os.PathLike, notes: Mapping[str, str] | None = None) -> None:
    """Writes an ONNX file of the network, with batch, height and width left open.

    Args:
        model: The U-Net.
        path: File to write, ending in `.onnx`.
        notes: Name -> text for the file's `metadata_props`.

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
        _export(inference_network(model), temporary, "onnx")
        exported = onnx.load(temporary)
        _name_tensors(exported.graph)
        onnx.helper.set_model_props(exported, dict(notes or {}))
        try:
            onnx.checker.check_model(exported)
        except onnx.checker.ValidationError as error:
            # tf2onnx logs what it cannot convert, and writes the file nevertheless.
            raise ValueError(f"{path}: the network computes something that ONNX lacks: {error}") from error
        onnx.save(exported, temporary)


def _export(network: keras.Model, path: Path, format: str) -> None:
    """Exports with Keras, without the lines that it and TensorFlow print about tracing."""
    image = network.inputs[0]
    signature = [keras.InputSpec(shape=image.shape, dtype="float32", name=INPUT)]
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # Keras looks for a name that NumPy has dropped.
        warnings.filterwarnings("ignore", category=FutureWarning, message=".*np.object.*")
        network.export(path, format=format, verbose=False, input_signature=signature)


def _name_tensors(graph) -> None:
    """Gives the dimensions and the output of an exported graph names that say what they are."""
    for value in (*graph.input, *graph.output):
        for name, dimension in zip(_DIMENSIONS, value.type.tensor_type.shape.dim, strict=False):
            dimension.dim_param = name
    (old,) = (value.name for value in graph.output)
    graph.output[0].name = OUTPUT
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [OUTPUT if name == old else name for name in names]


def _require_tensorflow() -> None:
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "Networks are exported by TensorFlow: set KERAS_BACKEND=tensorflow, which reads the same weights. "
            f"Received: {keras.backend.backend()}"
        )
