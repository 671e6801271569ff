"""Exported U-Nets: prediction from an ONNX file, without Keras and TensorFlow."""

from __future__ import annotations

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
from trainkit.onnx_files import OnnxFileError, read_metadata, replace_metadata
from trainkit.reading import reading
from unet.onnx_model import NETWORK_SETTINGS, OnnxUNet

if TYPE_CHECKING:
    import keras

    from nucleus.datasets.dataset import NucleusDataset

# Name of the recipe in the metadata of an ONNX file.
RECIPE_NOTE = "keras_nucleus_recipe"


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

    def save(self, path: str | os.PathLike) -> None:
        """Writes the file again, its recipe with the present settings.

        Args:
            path: File to write, ending in `.onnx`.

        Raises:
            ValueError: onnx is not installed.
            OSError: The file cannot be written.
        """
        replace_metadata(self.path, path, note_recipe(self.recipe))


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
