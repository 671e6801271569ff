"""Export of a U-Net's forward pass: TensorFlow's SavedModel and ONNX, both for inputs of any size."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping

import keras

from trainkit import exporting
from trainkit.checkpoint import synchronise
from unet.architecture import build_unet
from unet.model import UNet

# Names of the exported network's input and output.
INPUT, OUTPUT = "image", "probabilities"
# Names of the dimensions in an ONNX file; height and width are multiples of the network's stride.
_DIMENSIONS = dict.fromkeys((INPUT, OUTPUT), ("batch", "height", "width"))


def inference_network(model: UNet) -> keras.Model:
    """Returns a copy of a U-Net's network that computes in float32 on one device, whatever its configuration.

    Args:
        model: The U-Net.
    """
    synchronise(model.keras_model)
    config = copy.copy(model.config)
    config.PRECISION, config.GPU_COUNT = "float32", 1
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
    exporting.export_savedmodel(lambda: inference_network(model), _signature(model), folder, notes)


def export_onnx(
    model: UNet,
    path: str | os.PathLike,
    notes: Mapping[str, str] | None = None,
    tags: Mapping[int, str] | None = None,
) -> None:
    """Writes an ONNX file of the network, with batch, height and width left open.

    Args:
        model: The U-Net.
        path: File to write, ending in `.onnx`.
        notes: Name -> text for the file's `metadata_props`.
        tags: For a file of the graph alone; see `trainkit.exporting.export_onnx`.

    Raises:
        ValueError: The backend is another one than TensorFlow, a package of the extra "export" is missing, the name
            ends otherwise, or a part of the network has no equivalent in ONNX.
        OSError: The file cannot be written.
    """
    exporting.export_onnx(
        lambda: inference_network(model),
        _signature(model),
        path,
        notes,
        outputs=[OUTPUT],
        dimensions=_DIMENSIONS,
        tags=tags,
    )


def _signature(model: UNet) -> keras.InputSpec:
    return keras.InputSpec(shape=model.keras_model.inputs[0].shape, dtype="float32", name=INPUT)
