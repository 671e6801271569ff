"""`export`: a trained network in a format that other programs run."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from nucleus.datasets.folds import find_folds, folds_beside
from nucleus.exporting.bioimage import write_package
from nucleus.exporting.formats import FORMATS
from nucleus.models.base import NucleusModel
from nucleus.models.loading import ChosenModel, resolve
from nucleus.models.mask_rcnn import MaskRCNNModel
from nucleus.models.onnx import EXPORTED, WEIGHTS_NOTE, note_recipe
from nucleus.models.recipe import RECIPE_FILE, Recipe, changed_settings, plain_values
from nucleus.models.registry import NETWORKS, SHIPPED_MODEL
from nucleus.models.settings import inference_settings
from nucleus.models.unet import UNetModel
from nucleus.models.weights import SHIPPED
from nucleus.models.wrapper import Wrapper
from trainkit.files import file_digest
from trainkit.onnx_files import FINGERPRINT_NOTE
from trainkit.onnx_weights import WEIGHTS_SUFFIX


def export(
    model: NucleusModel | str | os.PathLike | None,
    path: str | os.PathLike,
    format: str = "onnx",
    *,
    kind: str | None = None,
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    graph_only: bool = False,
) -> Path:
    """Writes a trained network's forward pass with its recipe, in float32.

    What the network computes is exported, from RGB pixels in 0 to 255, for images of any size: a U-Net's probabilities;
    a Mask R-CNN's detections with their masks, after both suppressions. Preprocessing, tiles, scale and what makes
    nuclei of the output are not part of it: `load_model` of an ONNX file does them by the recipe in the file.

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
        graph_only: True for an ONNX file without weights, to stand beside its weights file: the weights are read from
            there, also other ones of the same architecture and recipe.

    Returns:
        The file or folder.

    Raises:
        ValueError: The model is no network, the format is unknown or does not fit model or path, a package of the extra
            "export" is missing, Keras runs on another backend than TensorFlow, or a file without weights is not to
            stand beside a weights file.
        OSError: The file cannot be written.
    """
    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}. Received: {format!r}")
    path, tags = Path(path), None
    if not isinstance(model, NucleusModel):
        if model in (None, SHIPPED) and preset is None:
            # The shipped default is no network: its U-Net is exported.
            kind = kind or SHIPPED_MODEL
        chosen = resolve(model, model=kind, preset=preset, settings=settings)
        source, weights = model, chosen.path
        if graph_only:
            network, tags = _load_tagged(chosen, path, format)
        else:
            network = _bare(chosen.load())
    elif preset or settings:
        raise ValueError("A loaded model has its settings. Received: preset or settings too.")
    elif graph_only:
        raise ValueError("A graph without weights belongs to a weights file. Received: a loaded model.")
    else:
        network, source, weights = _bare(model), None, None
    recipe = _full_recipe(network)
    if format == "bioimageio":
        if not isinstance(network, UNetModel):
            raise ValueError(
                f"A package of the BioImage Model Zoo holds a {UNetModel.kind}: an image in, an image out. "
                f"Received: a {network.kind}; export it as onnx or savedmodel."
            )
        write_package(network, recipe, path)
    elif format == "onnx":
        notes = note_recipe(recipe)
        notes |= {} if weights is None else {WEIGHTS_NOTE: file_digest(weights, "sha256")}
        notes |= {} if graph_only else {FINGERPRINT_NOTE: network.describe()["weights"]}
        _export_onnx(network, path, notes, tags)
        _copy_folds(source, path)
    else:
        _export_savedmodel(network, path, {RECIPE_FILE: json.dumps(asdict(recipe), indent=2)})
    return path


def _load_tagged(chosen: ChosenModel, path: Path, format: str) -> tuple[UNetModel | MaskRCNNModel, dict[int, str]]:
    """Returns the network with its weights replaced by tags, and the arrays of the weights file by tag.

    The arrays are in the order of the network's weights.
    """
    import keras

    from trainkit.tagged_weights import write_tagged

    weights = chosen.path
    if format != "onnx" or weights is None or weights.suffix != WEIGHTS_SUFFIX or chosen.kind not in NETWORKS:
        raise ValueError(
            "A graph without weights is an ONNX file of a network in a weights file (.h5). "
            f"Received: {format}, {weights or chosen.kind}"
        )
    if path.resolve() != weights.with_suffix(".onnx").resolve():
        raise ValueError(
            f"A graph without weights stands beside its weights file: {weights.with_suffix('.onnx')}. Received: {path}"
        )
    with tempfile.TemporaryDirectory() as folder:
        tagged = Path(folder) / weights.name
        datasets = write_tagged(weights, tagged)
        network = _bare(replace(chosen, path=tagged).load_bare())
    values = (keras.ops.convert_to_numpy(variable) for variable in network.network.keras_model.weights)
    found = [int(array.flat[0]) for array in values]
    return network, {tag: datasets[tag] for tag in found}


def _export_onnx(
    model: UNetModel | MaskRCNNModel, path: Path, notes: Mapping[str, str], tags: Mapping[int, str] | None
) -> None:
    if isinstance(model, UNetModel):
        from unet.exporting import export_onnx

        export_onnx(model.network, path, notes, tags)
    else:
        from mrcnn.exporting import export_onnx

        export_onnx(model.detector(), path, notes, tags)


def _export_savedmodel(model: UNetModel | MaskRCNNModel, path: Path, notes: Mapping[str, str]) -> None:
    if isinstance(model, UNetModel):
        from unet.exporting import export_savedmodel

        export_savedmodel(model.network, path, notes)
    else:
        from mrcnn.exporting import export_savedmodel

        export_savedmodel(model.detector(), path, notes)


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
    """Returns the recipe of the exported network: the settings of its configuration, computing in float32.

    Settings that the network has fixed are all in it, also those of the preset: the preset may change, the file does
    not.
    """
    preset = model.default_preset if model.recipe is None else model.recipe.preset
    base = model.make_config("inference", preset, {})
    changed = inference_settings(changed_settings(model.config, base))
    values = plain_values(model.config)
    fixed = {name: values[name] for name in EXPORTED[model.kind].fixed if not callable(values[name])}
    return Recipe(preset, {**changed, **fixed, "PRECISION": "float32"}, model.kind)


def _copy_folds(source: str | os.PathLike | None, exported: Path) -> None:
    """Writes the folds of a training beside the exported file, so that images it learned are refused as before."""
    if source is None or not Path(source).exists():
        return
    weights = Path(source)
    folds = find_folds(weights / RECIPE_FILE if weights.is_dir() else weights)
    if folds is not None:
        folds.save(folds_beside(exported))
