"""Short trainings as trials of a search: what settings are worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nucleus.augmentation.mixing import Mixing
from nucleus.datasets.dataset import NucleusDataset
from nucleus.evaluation.evaluation import evaluate
from nucleus.models.config import inference_settings, make_config
from nucleus.models.inference import load_model, preprocessing
from nucleus.models.weights import Recipe
from nucleus.training.runs import train_or_resume


@dataclass(frozen=True)
class TrainingTrial:
    """Trains a model with settings, and scores it.

    Attributes:
        recipe: Model and settings that are not searched.
        weights: What each training begins with; see `nucleus.training.training.start`.
        path: The file of these weights, if they are in one.
        epochs: Of each training.
        load: (subset, preprocessing, mixing) -> data set; see `NucleusDataset`.
        train: Subset to train on.
        val: Subset to score on.
    """

    recipe: Recipe
    weights: str
    path: Path | None
    epochs: int
    load: Callable[..., NucleusDataset]
    train: str
    val: str

    def __call__(self, settings: Mapping[str, Any], folder: Path) -> float:
        """Returns the mAP that a training with settings ends with.

        Args:
            settings: On top of the recipe's.
            folder: Of the training, which goes on where it was stopped. Its weights are removed at the end: those of a
                search would fill a disk.

        Raises:
            ValueError: Settings or images cannot be used.
            TrainingDivergedError: The loss became infinite or NaN.
        """
        import keras

        # Scored once, at the end.
        recipe = Recipe(
            self.recipe.preset, {**self.recipe.settings, **settings, "EVALUATE_EVERY": 0}, self.recipe.model
        )
        config = make_config("training", recipe.preset, recipe.settings, recipe.model)
        inference = make_config("inference", recipe.preset, inference_settings(recipe.settings), recipe.model)
        prepare = preprocessing(config)
        train = self.load(self.train, preprocessing=prepare, mixing=Mixing.of(config))
        val = self.load(self.val, preprocessing=prepare)
        train.cache_labels(progress=False)
        val.cache_labels(progress=False)
        try:
            last = train_or_resume(recipe, self.weights, self.path, folder, train, val, epochs=self.epochs)
            scores = evaluate(load_model(last, inference, str(folder)), self.load(self.val))
        finally:
            keras.utils.clear_session()
        for weights in folder.rglob("*.h5"):
            weights.unlink()
        return float(scores["mAP"].mean())


def searchable(recipe: Recipe, names: list[str]) -> Recipe:
    """Returns settings in which a search of some has an effect.

    Stages with learning rates of their own pass LEARNING_RATE over: where that is searched, they lose theirs.

    Args:
        recipe: Model and settings.
        names: Of the settings that are searched.
    """
    if "LEARNING_RATE" not in names or "STAGES" in names:
        return recipe
    config = make_config("training", recipe.preset, recipe.settings, recipe.model)
    stages = tuple((layers, epochs) for layers, epochs, *_ in config.STAGES)
    return Recipe(recipe.preset, {**recipe.settings, "STAGES": stages}, recipe.model)
