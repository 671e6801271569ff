"""Objective of a search: the score of a short training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nucleus.datasets.source import ImageSource
from nucleus.evaluation.evaluation import evaluate
from nucleus.models.loading import load_model
from nucleus.models.recipe import Recipe
from nucleus.models.registry import detection_config, make_config
from nucleus.training.resuming import train_or_resume


@dataclass(frozen=True)
class TrainingObjective:
    """Trains a model with the settings of a trial, and scores it.

    Attributes:
        recipe: Model and settings that are not searched.
        weights: Initial weights of each training; see `NetworkModel.begin`.
        path: File of the initial weights; None if they are not in a file.
        epochs: Number of epochs of each training.
        source: The data set.
        train: Subset to train on.
        val: Subset to score on.
    """

    recipe: Recipe
    weights: str
    path: Path | None
    epochs: int
    source: ImageSource
    train: str
    val: str

    def __call__(self, settings: Mapping[str, Any], folder: Path) -> float:
        """Returns the mAP after a training, in 0..1.

        Args:
            settings: Settings of the trial, on top of the recipe's.
            folder: Folder of the training, which is resumed if it was interrupted. Its weights are removed at the end:
                those of all trials would fill a disk.

        Raises:
            ValueError: A setting or an image cannot be used.
            TrainingDivergedError: The loss became infinite or NaN.
        """
        import keras

        # Scored once, at the end.
        recipe = self.recipe.with_settings({**settings, "EVALUATE_EVERY": 0})
        train, val = self.source.load(self.train), self.source.load(self.val)
        train.cache_labels(progress=False)
        val.cache_labels(progress=False)
        try:
            last = train_or_resume(recipe, self.weights, self.path, folder, train, val, epochs=self.epochs)
            scores = evaluate(load_model(last, detection_config(recipe), model_dir=folder), val)
        finally:
            keras.utils.clear_session()
        for weights in folder.rglob("*.h5"):
            weights.unlink()
        return float(scores["mAP"].mean())


def searchable(recipe: Recipe, names: list[str]) -> Recipe:
    """Returns a recipe in which the searched settings take effect.

    Learning rates of stages take precedence over LEARNING_RATE: where that is searched, they are removed.

    Args:
        recipe: Model and settings.
        names: Names of the searched settings.
    """
    if "LEARNING_RATE" not in names or "STAGES" in names:
        return recipe
    config = make_config("training", recipe.preset, recipe.settings, recipe.model)
    stages = tuple((layers, epochs) for layers, epochs, *_ in config.STAGES)
    return recipe.with_settings({"STAGES": stages})
