"""Training a `MaskRCNN`: which layers learn, with what optimizer, and what is kept of every epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras

from mrcnn.data import DataGenerator
from trainkit import fitting
from trainkit.fitting import TrainingDivergedError
from trainkit.optimizers import make_optimizer

if TYPE_CHECKING:
    from mrcnn.model import MaskRCNN

__all__ = ["LAYER_REGEX", "TrainingDivergedError", "compile_model", "make_optimizer", "set_trainable", "train"]

_HEADS = r"(mrcnn\_.*)|(rpn\_.*)|(fpn\_.*)"


def _from_stage(first: int) -> str:
    stages = "|".join(f"(res{stage}.*)|(bn{stage}.*)" for stage in range(first, 6))
    return f"{stages}|{_HEADS}"


# Named sets of layers as regular expressions over their names.
LAYER_REGEX = {
    "heads": _HEADS,
    "3+": _from_stage(3),
    "4+": _from_stage(4),
    "5+": _from_stage(5),
    "all": ".*",
}


def set_trainable(layer_regex: str, model: keras.Model, verbose: int = 0) -> list[str]:
    """Lets the layers learn whose whole name matches; see `trainkit.fitting.set_trainable`.

    Args:
        layer_regex: A regular expression, or a key of `LAYER_REGEX`.
        model: The model; nested models are entered.
        verbose: 1 prints the names of the layers that learn.

    Returns:
        The names of the layers with weights that learn.

    Raises:
        ValueError: No layer with weights matches, or the expression is none.
    """
    return fitting.set_trainable(layer_regex, model, LAYER_REGEX, verbose)


def compile_model(model: MaskRCNN, learning_rate: float, momentum: float) -> None:
    """Gives the training model a fresh optimizer."""
    config = model.config
    optimizer = make_optimizer(config.OPTIMIZER, learning_rate, momentum, config.GRADIENT_CLIP_NORM)
    # TensorFlow's kernels for suppression and RoIAlign are not XLA's; JAX compiles everything anyway.
    compiled = "auto" if keras.backend.backend() == "jax" else False
    model.keras_model.compile(optimizer=optimizer, jit_compile=compiled)


def train(
    model: MaskRCNN,
    train_dataset: Any,
    val_dataset: Any,
    learning_rate: float,
    epochs: int,
    layers: str,
    augmentation: Any = None,
    custom_callbacks: Sequence[keras.callbacks.Callback] | None = None,
    no_augmentation_sources: Sequence[str] | None = None,
) -> keras.callbacks.History | None:
    """Trains until `epochs` epochs are done in total; see `MaskRCNN.train`."""
    if model.epoch >= epochs:
        return None
    config = model.config
    names = set_trainable(layers, model.keras_model)
    compile_model(model, learning_rate, config.LEARNING_MOMENTUM)
    training = DataGenerator(
        train_dataset,
        config,
        augmentation=augmentation,
        seed=config.SEED,
        no_augmentation_sources=no_augmentation_sources,
    )
    validation = None
    if config.VALIDATION_STEPS:
        validation = DataGenerator(
            val_dataset, config, shuffle=False, seed=config.SEED, steps=config.VALIDATION_STEPS, workers=0
        )
    print(f"\nStarting at epoch {model.epoch}. LR={learning_rate}. {len(names)} layers learn.")
    return fitting.fit(
        model,
        training,
        validation,
        epochs=epochs,
        stage={"layers": LAYER_REGEX.get(layers, layers), "learning_rate": float(learning_rate)},
        seed=config.SEED,
        callbacks=custom_callbacks or (),
    )
