"""Exported U-Nets: prediction from an ONNX file, without Keras and TensorFlow."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nucleus.models.base import History
from nucleus.models.pixelwise import PixelwiseModel
from nucleus.models.recipe import Recipe, changed_settings
from nucleus.models.settings import inference_settings
from nucleus.models.unet import NucleusUNetConfig, UNetModel
from trainkit.files import file_digest
from trainkit.onnx_files import SUFFIX, OnnxFileError, read_metadata, replace_metadata
from trainkit.reading import reading
from trainkit.settings import Settings
from unet.onnx_model import NETWORK_SETTINGS, OnnxUNet

if TYPE_CHECKING:
    import keras

    from nucleus.datasets.dataset import NucleusDataset

# Names in the metadata of an ONNX file: the recipe, and the SHA-256 of the weights file that it was exported from.
RECIPE_NOTE, WEIGHTS_NOTE = "keras_nucleus_recipe", "keras_nucleus_weights_sha256"
# Devices of the drivers of NVIDIA's and AMD's GPUs, on which Keras is faster.
_GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd")


class OnnxModel(PixelwiseModel):
    """A U-Net that was exported with its recipe, run by ONNX Runtime.

    It finds nuclei as the U-Net does from which it was exported: same preprocessing, tiles, scale, test-time
    augmentation and post-processing. It cannot learn.

    Attributes:
        path: The ONNX file.
        recipe: Recipe of the model, with the settings of its configuration.

    Args:
        path: File that `nucleus.export` wrote.
        recipe: Recipe in the file.
        config: Configuration of the detection, of the same network; by default the recipe's.

    Raises:
        OnnxFileError: The file cannot be run, or the configuration is that of another network.
    """

    config: NucleusUNetConfig

    def __init__(self, path: str | os.PathLike, recipe: Recipe, config: NucleusUNetConfig | None = None):
        for kind in (recipe.model, UNetModel.kind if config is None else config.model_kind):
            if kind != UNetModel.kind:
                raise OnnxFileError(f"{path}: ONNX files hold {UNetModel.kind}s. Received: settings of a {kind}")
        exported = UNetModel.make_config("inference", recipe.preset, inference_settings(recipe.settings))
        config = exported if config is None else config
        for name in NETWORK_SETTINGS:
            fixed, wanted = getattr(exported, name), getattr(config, name)
            if fixed != wanted:
                raise OnnxFileError(
                    f"{path}: {name} is part of the exported network and stays {fixed!r}. Received: {wanted!r}"
                )
        self.path, self.config = Path(path), config
        self.recipe = recipe.with_settings(changed_settings(config, exported))
        self.network = OnnxUNet(path, config)

    def fit(
        self,
        train: NucleusDataset,
        val: NucleusDataset | None,
        *,
        epochs: int | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> History:
        """Raises ValueError: an exported network cannot learn."""
        raise ValueError(f"{self.path}: an exported network cannot learn. Train the weights it was exported from.")

    def describe(self) -> dict[str, Any]:
        """Adds the SHA-256 of the file; see `NucleusModel.describe`."""
        return {**super().describe(), "weights": f"sha256:{file_digest(self.path, 'sha256')}"}

    def save(self, path: str | os.PathLike) -> None:
        """Writes the file again, its recipe with the present settings.

        Args:
            path: File to write, ending in `.onnx`.

        Raises:
            ValueError: onnx is not installed.
            OSError: The file cannot be written.
        """
        replace_metadata(self.path, path, note_recipe(self.recipe))


def exported_beside(weights: Path | None, config: Settings) -> Path | None:
    """Returns the exported file beside a weights file that does the same work sooner: without importing TensorFlow.

    Args:
        weights: Weights file of a network; None for a model without one.
        config: Configuration of the detection.

    Returns:
        The file of the same name with the suffix `.onnx`; or None, where there is none that holds the network of
        exactly these weights and this configuration, ONNX Runtime is not installed, KERAS_BACKEND asks for a backend,
        or there is a GPU.

    Raises:
        OnnxFileError: The file beside the weights is damaged.
    """
    if weights is None or weights.suffix != ".h5" or not isinstance(config, NucleusUNetConfig):
        return None
    path = weights.with_suffix(SUFFIX)
    if not path.is_file() or importlib.util.find_spec("onnxruntime") is None:
        return None
    if "KERAS_BACKEND" in os.environ or any(map(os.path.exists, _GPU_DEVICES)):
        return None
    notes = read_metadata(path)
    if notes.get(WEIGHTS_NOTE) != file_digest(weights, "sha256"):
        return None
    recipe = Recipe(**read_recipe_note(path))
    exported = UNetModel.make_config("inference", recipe.preset, inference_settings(recipe.settings))
    same = all(getattr(exported, name) == getattr(config, name) for name in NETWORK_SETTINGS)
    return path if same else None


def note_recipe(recipe: Recipe) -> dict[str, str]:
    """Returns the metadata that hold a recipe."""
    return {RECIPE_NOTE: json.dumps(asdict(recipe))}


def read_recipe_note(path: str | os.PathLike) -> Mapping[str, Any]:
    """Reads the recipe in an ONNX file, unchecked.

    Args:
        path: File that `nucleus.export` wrote.

    Raises:
        OnnxFileError: ONNX Runtime is not installed, the file cannot be read, or it holds no recipe.
    """
    notes = read_metadata(path)
    if RECIPE_NOTE not in notes:
        raise OnnxFileError(f"{path}: no recipe in its metadata ({RECIPE_NOTE}): it was not made by nucleus export.")
    with reading(path, "no recipe of an exported model", OnnxFileError):
        content = json.loads(notes[RECIPE_NOTE])
        if not isinstance(content, dict):
            raise ValueError(f"expected an object in braces; found a {type(content).__name__}")
        return content
