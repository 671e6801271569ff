"""A training run from data set and initial weights to its last checkpoint: `nucleus train` for Python users."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nucleus.datasets.folds import FOLDS_FILE
from nucleus.datasets.source import ImageSource
from nucleus.models.network import NetworkModel
from nucleus.models.registry import NETWORKS, make_config
from nucleus.models.weights import choose_recipe, find_recipe, starting_weights
from nucleus.quiet import import_keras
from nucleus.training.diameters import known_diameters
from nucleus.training.recipes import training_recipe
from nucleus.training.training_images import TrainingImages

if TYPE_CHECKING:
    import keras


def train(
    dataset: ImageSource | str | os.PathLike,
    weights: str | os.PathLike,
    *,
    model: str | None = None,
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    subset: str = "train",
    val_subset: str = "val",
    fold: int | None = None,
    folds: int | Path | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    model_dir: str | os.PathLike = "logs",
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> NetworkModel:
    """Trains a network on a data set, or resumes a training.

    The run's folder, `log_dir` of the returned model, gets the settings (`recipe.json`), the folds if there are any
    (`folds.json`), `training.csv`, and a checkpoint of every epoch. With EVALUATE_EVERY above 0, the validation images
    are scored every so many epochs, and the weights with the best mAP are kept in `best_path`.

    Args:
        dataset: Path of the data set, in any layout that is detected; or an `ImageSource`, to choose the layout,
            modalities or channels.
        weights: Initial weights: "none" for random ones, "imagenet", "coco" (Mask R-CNN only), "shipped", "last" for
            the last checkpoint in `model_dir`, or a file. The checkpoint of an epoch resumes its run.
        model: Kind of network, "mask_rcnn" or "unet"; by default that of the weights or of the preset.
        preset: Name of a preset; by default the weights' own settings.
        settings: Attribute name -> value, on top of the preset, such as `{"LEARNING_RATE": 0.0003}`.
        subset: Images to train on; see `nucleus.datasets.layouts.subsets`.
        val_subset: Images to validate on.
        fold: Number, from 1 on, of the fold of both subsets together to validate on instead; the other folds are
            trained on.
        folds: With `fold`, the number of folds, or the `folds.json` of another run; by default four.
        steps: Training batches of an epoch, as the setting STEPS_PER_EPOCH.
        epochs: Total number of epochs; by default that of the setting STAGES.
        model_dir: Folder in which every run gets its own.
        callbacks: Keras callbacks.

    Returns:
        The trained model, which predicts, and is saved by `save`. A warning is logged if all epochs had been trained
        before.

    Raises:
        ValueError: Weights, settings, images or folds cannot be used.
        FileNotFoundError: There is no run to resume.
        LockedError: Another process trains the run that is to be resumed; the message names it.
        DownloadError: Published weights could not be fetched.
        TrainingDivergedError: The loss became infinite or NaN.
    """
    weights, asked = str(weights), dict(settings or {})
    import_keras()
    from nucleus.training.validation import validation_callbacks

    path = starting_weights(weights, model_dir, model, asked.get("NAME"))
    base = choose_recipe(None if path is None else find_recipe(path), model, preset)
    recipe = training_recipe(base, weights, asked, steps)
    config = make_config("training", recipe.preset, recipe.settings, recipe.model)
    source = dataset if isinstance(dataset, ImageSource) else ImageSource(Path(dataset))
    planes = source.planes.with_default(config.planes())
    source = replace(source, memory_limit=config.IMAGE_CACHE_MB * 2**20, planes=planes)
    images = TrainingImages(source, subset, val_subset, fold, folds)
    division = images.divide(path, recipe.model, config.SEED)
    train_images, val_images = images.load(division, path)

    config.display()
    if "KNOWN_DIAMETERS" not in asked:
        recipe = recipe.with_settings(
            {"KNOWN_DIAMETERS": known_diameters(train_images, NETWORKS[recipe.model], config)}
        )
    network = NETWORKS[recipe.model].begin(recipe, model_dir, weights, path)
    with network.hold_run():
        recipe.save(network.log_dir)
        if division is not None:
            division.save(Path(network.log_dir) / FOLDS_FILE)
        watching = validation_callbacks(network, val_images)
        network.fit(train_images, val_images, epochs=epochs, callbacks=[*watching, *callbacks])
    return network
