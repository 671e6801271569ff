"""Exported networks: prediction from an ONNX file, without Keras and TensorFlow."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mrcnn.onnx_model import NETWORK_SETTINGS as MASK_RCNN_SETTINGS
from mrcnn.onnx_model import OnnxMaskRCNN
from nucleus.models.base import History, NucleusModel
from nucleus.models.instances import InstanceModel
from nucleus.models.mask_rcnn import MaskRCNNModel, NucleusConfig
from nucleus.models.network import NetworkModel
from nucleus.models.pixelwise import PixelwiseModel
from nucleus.models.recipe import Recipe, changed_settings
from nucleus.models.settings import ApplicationSettings, inference_settings
from nucleus.models.unet import NucleusUNetConfig, UNetModel
from trainkit.files import file_digest
from trainkit.hdf5_files import WeightsFileError
from trainkit.onnx_files import SUFFIX, OnnxFileError, read_metadata
from trainkit.onnx_weights import WEIGHTS_SUFFIX, WeightsLayout
from trainkit.onnx_writing import replace_metadata
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


class ExportedModel(NucleusModel):
    """A network that was exported with its recipe, run by ONNX Runtime; it cannot learn.

    Attributes:
        original: Class of the models that such files are exported from.
        fixed: Names of the settings that are part of the exported network.
        path: The ONNX file.
        recipe: Recipe of the model, with the settings of its configuration.
        network: Network in the file.

    Args:
        path: File that `nucleus.export` wrote.
        recipe: Recipe in the file.
        config: Configuration of the detection, of the same network; by default the recipe's.

    Raises:
        OnnxFileError: The file cannot be run, or the configuration is that of another network.
    """

    original: ClassVar[type[NetworkModel]]
    fixed: ClassVar[tuple[str, ...]]
    network: OnnxUNet | OnnxMaskRCNN

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
        """Adds the weights' fingerprint, which they have in Keras too, the SHA-256 of the file, and a version.

        See `NucleusModel.describe`.
        """
        digest = f"sha256:{file_digest(self.path, 'sha256')}"
        weights, versions = self.network.fingerprint or digest, {"onnxruntime": metadata.version("onnxruntime")}
        return {**super().describe(), "weights": weights, "exported": digest, "versions": versions}

    def save(self, path: str | os.PathLike) -> None:
        """Writes the file again, with its weights in it and with the present settings in its recipe.

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
    """A Mask R-CNN that was exported with its recipe.

    It finds the nuclei that the Mask R-CNN finds from which it was exported. See `ExportedModel` for the arguments.
    """

    original = MaskRCNNModel
    fixed = MASK_RCNN_SETTINGS
    config: NucleusConfig

    def __init__(self, path: str | os.PathLike, recipe: Recipe, config: NucleusConfig | None = None):
        super().__init__(path, recipe, config)
        self.network = OnnxMaskRCNN(path, self.config)

    def _find(self, images: Sequence[np.ndarray]) -> list[Instances]:
        return self.network.detect_instances(images)


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
    """Returns the exported network beside a weights file, which gives the same results sooner: without TensorFlow.

    Args:
        weights: Weights file of a network; None for a model without one.
        config: Configuration of the detection.

    Returns:
        The file of the same name with the suffix `.onnx`; or None, where there is none that holds the network of
        exactly these weights and this configuration, ONNX Runtime is not installed, KERAS_BACKEND asks for a backend,
        or there is a GPU. A warning is logged for a file that was exported from other weights.

    Raises:
        OnnxFileError: The file beside the weights is damaged.
    """
    if weights is None or weights.suffix != WEIGHTS_SUFFIX or config.model_kind not in EXPORTED:
        return None
    path = weights.with_suffix(SUFFIX)
    if not path.is_file():
        return None
    if importlib.util.find_spec("onnxruntime") is None:
        _log.info("%s: runs in Keras, since onnxruntime is not installed", weights)
        return None
    if "KERAS_BACKEND" in os.environ or any(map(os.path.exists, _GPU_DEVICES)):
        return None
    reason = _unfit(path, weights)
    if reason:
        _log.warning(
            "%s: is not used: %s. The weights run in Keras. To start sooner, export them again: nucleus export "
            "--weights=%s --output=%s --graph-only",
            path,
            reason,
            weights,
            path,
        )
        return None
    return path if _same_network(path, config) else None


def _unfit(path: Path, weights: Path) -> str:
    """Returns why an exported file does not belong to the weights beside it; "" where it does."""
    notes = read_metadata(path)
    if notes.get(WEIGHTS_NOTE) == file_digest(weights, "sha256"):
        return ""
    with reading(path, "no exported model", OnnxFileError):
        layout = WeightsLayout.from_notes(notes)
    if layout is None:
        return f"it was exported from other weights than those in {weights.name}"
    try:
        layout.check(weights)
    except WeightsFileError as error:
        return str(error)
    return ""


def _same_network(path: Path, config: Settings) -> bool:
    """Returns True if an exported file computes what a configuration asks for."""
    model, recipe = EXPORTED[config.model_kind], Recipe(**read_recipe_note(path))
    if recipe.model != config.model_kind:
        return False
    exported = model.original.make_config("inference", recipe.preset, inference_settings(recipe.settings))
    return all(np.array_equal(getattr(exported, name), getattr(config, name)) for name in model.fixed)


def note_recipe(recipe: Recipe) -> dict[str, str]:
    """Returns the metadata that hold a recipe."""
    return {RECIPE_NOTE: json.dumps(asdict(recipe))}


def read_recipe_note(path: str | os.PathLike) -> Mapping[str, Any]:
    """Reads the recipe in an ONNX file, unchecked.

    Args:
        path: File that `nucleus.export` wrote.

    Raises:
        OnnxFileError: The file cannot be read, or it holds no recipe.
    """
    notes = read_metadata(path)
    if RECIPE_NOTE not in notes:
        raise OnnxFileError(f"{path}: no recipe in its metadata ({RECIPE_NOTE}): it was not made by nucleus export.")
    with reading(path, "no recipe of an exported model", OnnxFileError):
        content = json.loads(notes[RECIPE_NOTE])
        if not isinstance(content, dict):
            raise ValueError(f"expected an object in braces; found a {type(content).__name__}")
        return content
