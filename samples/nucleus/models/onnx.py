"""Exported networks: prediction from an ONNX file, without Keras and TensorFlow."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mrcnn.onnx_model import NETWORK_SETTINGS as MASK_RCNN_SETTINGS
from mrcnn.onnx_model import OnnxMaskRCNN
from nucleus.models.base import History, NucleusModel, Prediction
from nucleus.models.instances import InstanceModel
from nucleus.models.limits import limits_of
from nucleus.models.mask_rcnn import MaskRCNNModel, NucleusConfig
from nucleus.models.network import NetworkModel
from nucleus.models.pixelwise import PixelwiseModel
from nucleus.models.recipe import Recipe, changed_settings
from nucleus.models.settings import ApplicationSettings, inference_settings
from nucleus.models.tiles import FixedTiles
from nucleus.models.unet import NucleusUNetConfig, UNetModel
from trainkit.files import file_digest
from trainkit.onnx_files import SUFFIX, OnnxFileError, read_metadata, replace_metadata
from trainkit.reading import reading
from trainkit.settings import Settings
from unet.onnx_model import NETWORK_SETTINGS as UNET_SETTINGS
from unet.onnx_model import OnnxUNet

if TYPE_CHECKING:
    import keras

    from mrcnn.results import Instances
    from nucleus.datasets.dataset import NucleusDataset

_log = logging.getLogger(__name__)

# Names in the metadata of an ONNX file: the recipe, and the SHA-256 of the weights file that it was exported from.
RECIPE_NOTE, WEIGHTS_NOTE = "keras_nucleus_recipe", "keras_nucleus_weights_sha256"
# Devices of the drivers of NVIDIA's and AMD's GPUs, on which Keras is faster.
_GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd")
# Side in pixels below which tiles are too small to find nuclei in.
_LEAST_TILE = 32


class ExportedModel(NucleusModel):
    """A network that was exported with its recipe, run by ONNX Runtime; it cannot learn.

    Attributes:
        original: Class of the models that such files are exported from.
        fixed: Names of the settings that are part of the exported network.
        path: The ONNX file.
        recipe: Recipe of the model, with the settings of its configuration.

    Args:
        path: File that `nucleus.export` wrote.
        recipe: Recipe in the file.
        config: Configuration of the detection, of the same network; by default the recipe's.

    Raises:
        OnnxFileError: The file cannot be run, or the configuration is that of another network.
    """

    original: ClassVar[type[NetworkModel]]
    fixed: ClassVar[tuple[str, ...]]

    def __init__(self, path: str | os.PathLike, recipe: Recipe, config: ApplicationSettings | None = None):
        kind = self.original.kind
        for named in (recipe.model, kind if config is None else config.model_kind):
            if named != kind:
                raise OnnxFileError(f"{path}: expected settings of a {kind}. Received: those of a {named}")
        exported = self.original.make_config("inference", recipe.preset, inference_settings(recipe.settings))
        config = exported if config is None else config
        for name in self.fixed:
            fixed, wanted = getattr(exported, name), getattr(config, name)
            if not np.array_equal(fixed, wanted):
                raise OnnxFileError(
                    f"{path}: {name} is part of the exported network and stays {fixed!r}. Received: {wanted!r}"
                )
        self.path, self.config = Path(path), config
        self.recipe = recipe.with_settings(changed_settings(config, exported))

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


class OnnxModel(ExportedModel, PixelwiseModel):
    """A U-Net that was exported with its recipe.

    It finds nuclei as the U-Net does from which it was exported: same preprocessing, tiles, scale, test-time
    augmentation and post-processing. See `ExportedModel` for the arguments.
    """

    original = UNetModel
    fixed = UNET_SETTINGS
    config: NucleusUNetConfig

    def __init__(self, path: str | os.PathLike, recipe: Recipe, config: NucleusUNetConfig | None = None):
        super().__init__(path, recipe, config)
        self.network = OnnxUNet(path, self.config)


class OnnxInstanceModel(ExportedModel, InstanceModel):
    """A Mask R-CNN that was exported with its recipe, for images up to a size; larger ones are divided into tiles.

    It finds the nuclei that the Mask R-CNN finds from which it was exported, in the same image or tile. The tiles of
    the size of the network are inside of those that TILE_SIZE asks for, if any; nuclei at their seams are treated
    alike. Since every tile has as many proposals as a whole image, other nuclei are found in tiles, of which a warning
    tells. See `ExportedModel` for the arguments.
    """

    original = MaskRCNNModel
    fixed = MASK_RCNN_SETTINGS
    config: NucleusConfig

    def __init__(self, path: str | os.PathLike, recipe: Recipe, config: NucleusConfig | None = None):
        super().__init__(path, recipe, config)
        self.network = OnnxMaskRCNN(path, self.config)
        self._warned = False

    def _find(self, images: Sequence[np.ndarray]) -> list[Instances]:
        return self.network.detect_instances(images)

    def _predict(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        predictions = []
        for index, image in enumerate(images):
            model = self if self._fits(image) else self._tiled(image.shape[:2])
            with limits_of([index]):
                predict = super()._predict if model is self else model._predict
                predictions += predict([image])
        return predictions

    def observe(self, images: Sequence[np.ndarray]) -> list[list[Any]]:
        """Returns boxes, mask probabilities and scores; of an image in tiles the masks of the nuclei in its labels."""
        evidence = []
        for index, image in enumerate(images):
            with limits_of([index]):
                if self._fits(image):
                    evidence += super().observe([image])
                else:
                    evidence += NucleusModel.observe(self, [image])
        return evidence

    def _fits(self, image: np.ndarray) -> bool:
        return self.network.fits(image.shape[:2])

    def _tiled(self, shape: tuple[int, int]) -> FixedTiles:
        """Returns this model in tiles, as large as the network takes, for an image (height, width) that it does not.

        Narrow tiles may be enlarged more than the image, so that smaller ones are needed.
        """
        side = int(self.network.side / max(1.0, self.network.enlargement(shape)))
        while side >= _LEAST_TILE:
            tiles = FixedTiles(self, side, min(self.config.TILE_OVERLAP, side // 2))
            shapes = [(bottom - top, right - left) for top, left, bottom, right in tiles.regions(shape)]
            if all(self.network.fits(each) for each in shapes):
                self._warn_of_tiles(shape)
                return tiles
            side = side * 7 // 8
        raise OnnxFileError(
            f"{self.path}: exported for {self.network.side} x {self.network.side} pixels, which is too small for "
            f"parts of an image of {shape[0]} x {shape[1]} pixels. Export it with a larger --size."
        )

    def _warn_of_tiles(self, shape: tuple[int, int]) -> None:
        """Logs, the first time, that the model does not find what the original finds in the whole image."""
        if not self._warned:
            _log.warning(
                "%s: an image of %d x %d pixels is larger than what the network was exported for, and divided into "
                "tiles. In them the network finds other nuclei, usually more, than the weights in Keras find in the "
                "whole image. To find the same, export it with --size=%d.",
                self.path,
                *shape,
                self.network.size_for(shape),
            )
            self._warned = True


# Kind of network in an ONNX file -> model that runs it.
EXPORTED: dict[str, type[ExportedModel]] = {model.original.kind: model for model in (OnnxModel, OnnxInstanceModel)}


def load_exported(path: str | os.PathLike, recipe: Recipe, config: ApplicationSettings | None = None) -> ExportedModel:
    """Returns the model of an exported file; see `ExportedModel`.

    Args:
        path: File that `nucleus.export` wrote.
        recipe: Recipe in the file.
        config: Configuration of the detection, of the same network; by default the recipe's.

    Raises:
        OnnxFileError: The file cannot be run, holds another kind of model, or the configuration is that of another
            network.
    """
    if recipe.model not in EXPORTED:
        raise OnnxFileError(
            f"{path}: ONNX files hold a {' or a '.join(EXPORTED)}. Received: the recipe of a {recipe.model}"
        )
    return EXPORTED[recipe.model](path, recipe, config)


def exported_beside(weights: Path | None, config: Settings) -> Path | None:
    """Returns the exported U-Net beside a weights file, which does the same work sooner: without importing TensorFlow.

    An exported Mask R-CNN is not returned: it divides images that its weights in Keras are shown whole.

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
    same = all(getattr(exported, name) == getattr(config, name) for name in UNET_SETTINGS)
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
