"""`export`: a trained network in a format that other programs run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nucleus.datasets.folds import find_folds, folds_beside
from nucleus.exporting.bioimage import write_package
from nucleus.exporting.formats import DEFAULT_SIZE, FORMATS
from nucleus.models.base import NucleusModel
from nucleus.models.loading import resolve
from nucleus.models.mask_rcnn import MaskRCNNModel
from nucleus.models.onnx import WEIGHTS_NOTE, note_recipe
from nucleus.models.recipe import RECIPE_FILE, Recipe, changed_settings
from nucleus.models.registry import SHIPPED_MODEL
from nucleus.models.settings import inference_settings
from nucleus.models.unet import UNetModel
from nucleus.models.weights import SHIPPED
from nucleus.models.wrapper import Wrapper
from trainkit.files import file_digest


def export(
    model: NucleusModel | str | os.PathLike | None,
    path: str | os.PathLike,
    format: str = "onnx",
    *,
    kind: str | None = None,
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    size: int = DEFAULT_SIZE,
) -> Path:
    """Writes a trained network's forward pass with its recipe, in float32.

    What the network computes is exported, from RGB pixels in 0 to 255: a U-Net's probabilities, for images of any size;
    a Mask R-CNN's detections with their masks, after both suppressions, for images up to one size. Preprocessing,
    tiles, scale and what makes nuclei of the output are not part of it: `load_model` of an ONNX file does them by the
    recipe in the file.

    Args:
        model: A U-Net or Mask R-CNN, with whatever wraps it, or what `load_model` takes: a weights file, the name of a
            shipped one, a run's folder, or None for the shipped U-Net.
        path: File ending in `.onnx` or `.zip`, or new folder of a SavedModel.
        format: "onnx": an ONNX file. "savedmodel": a folder of TensorFlow's, its recipe in `assets.extra`.
            "bioimageio": a package of the BioImage Model Zoo, which holds the ONNX file, a description with the recipe
            and an image with the expected answer; of U-Nets only.
        kind: Kind of the model, "unet" or "mask_rcnn", for `load_model`; only for weights without a recipe.
        preset: Name of a preset for `load_model`; not with a model that is loaded.
        settings: Attribute name -> value for `load_model`, on top of the recipe's; not with a model that is loaded.
        size: Side in pixels of the largest image that a Mask R-CNN is shown whole; it is shown larger ones in tiles.
            Without effect where IMAGE_RESIZE_MODE is "square", which brings images to one size, and for U-Nets.

    Returns:
        The file or folder.

    Raises:
        ValueError: The model is no network, the format is unknown or does not fit model or path, a package of the extra
            "export" is missing, or Keras runs on another backend than TensorFlow.
        OSError: The file cannot be written.
    """
    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}. Received: {format!r}")
    if not isinstance(model, NucleusModel):
        if model in (None, SHIPPED) and preset is None:
            # The shipped default is no network: its U-Net is exported.
            kind = kind or SHIPPED_MODEL
        chosen = resolve(model, model=kind, preset=preset, settings=settings)
        source, model, weights = model, chosen.load(), chosen.path
    elif preset or settings:
        raise ValueError("A loaded model has its settings. Received: preset or settings too.")
    else:
        source = weights = None
    network = _bare(model)
    path, recipe = Path(path), _full_recipe(network)
    if format == "bioimageio":
        if not isinstance(network, UNetModel):
            raise ValueError(
                f"A package of the BioImage Model Zoo holds a {UNetModel.kind}: an image in, an image out. "
                f"Received: a {network.kind}; export it as onnx or savedmodel."
            )
        write_package(network, recipe, path)
    elif format == "onnx":
        of_file = {} if weights is None else {WEIGHTS_NOTE: file_digest(weights, "sha256")}
        _export_onnx(network, path, {**note_recipe(recipe), **of_file}, size)
        _copy_folds(source, path)
    else:
        _export_savedmodel(network, path, {RECIPE_FILE: json.dumps(asdict(recipe), indent=2)}, size)
    return path


def _export_onnx(model: UNetModel | MaskRCNNModel, path: Path, notes: Mapping[str, str], size: int) -> None:
    if isinstance(model, UNetModel):
        from unet.exporting import export_onnx

        export_onnx(model.network, path, notes)
    else:
        from mrcnn import exporting

        exporting.export_onnx(model.detector(), exporting.network_side(model.config, size), path, notes)


def _export_savedmodel(model: UNetModel | MaskRCNNModel, path: Path, notes: Mapping[str, str], size: int) -> None:
    if isinstance(model, UNetModel):
        from unet.exporting import export_savedmodel

        export_savedmodel(model.network, path, notes)
    else:
        from mrcnn import exporting

        exporting.export_savedmodel(model.detector(), exporting.network_side(model.config, size), path, notes)


def _bare(model: NucleusModel) -> UNetModel | MaskRCNNModel:
    """Returns the network in its wrappers."""
    while isinstance(model, Wrapper):
        model = model.model
    if not isinstance(model, UNetModel | MaskRCNNModel):
        raise ValueError(
            f"Only U-Nets and Mask R-CNNs are exported, from their weights. Received: {type(model).__name__}"
        )
    return model


def _full_recipe(model: UNetModel | MaskRCNNModel) -> Recipe:
    """Returns the recipe of the exported network: the settings of its configuration, computing in float32."""
    preset = model.default_preset if model.recipe is None else model.recipe.preset
    base = model.make_config("inference", preset, {})
    changed = inference_settings(changed_settings(model.config, base))
    return Recipe(preset, {**changed, "PRECISION": "float32"}, model.kind)


def _copy_folds(source: str | os.PathLike | None, exported: Path) -> None:
    """Writes the folds of a training beside the exported file, so that images it learned are refused as before."""
    if source is None or not Path(source).exists():
        return
    weights = Path(source)
    folds = find_folds(weights / RECIPE_FILE if weights.is_dir() else weights)
    if folds is not None:
        folds.save(folds_beside(exported))
