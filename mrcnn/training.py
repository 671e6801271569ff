"""Training a `MaskRCNN`: which layers learn, with what optimizer, and what is kept of every epoch."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from mrcnn.data import DataGenerator
from trainkit.callbacks import EpochCheckpoint, ResumableCSVLogger, tensorboard_callback
from trainkit.checkpoint import restore_training_state

if TYPE_CHECKING:
    from mrcnn.model import MaskRCNN

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
    """Lets the layers learn whose whole name matches, freezes the others.

    Args:
        layer_regex: A regular expression, or a key of `LAYER_REGEX`.
        model: The model; nested models are entered.
        verbose: 1 prints the names of the layers that learn.

    Returns:
        The names of the layers with weights that learn.

    Raises:
        ValueError: No layer with weights matches, or the expression is none.
    """
    try:
        pattern = re.compile(LAYER_REGEX.get(layer_regex, layer_regex))
    except re.error as error:
        raise ValueError(f"layers must be one of {list(LAYER_REGEX)} or a regular expression: {error}") from error
    names = _set_trainable(pattern, model)
    if not names:
        raise ValueError(f"No layer of the model matches layers={layer_regex!r}: nothing would be trained.")
    if verbose:
        print("Training the layers", ", ".join(names))
    return names


def _set_trainable(pattern: re.Pattern[str], model: keras.Model) -> list[str]:
    names = []
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            layer.trainable = True
            names += _set_trainable(pattern, layer)
        elif layer.weights:
            layer.trainable = pattern.fullmatch(layer.name) is not None
            if layer.trainable:
                names.append(layer.name)
    return names


def make_optimizer(name: str, learning_rate: float, momentum: float, clip_norm: float | None) -> keras.Optimizer:
    """Returns the optimizer of a training stage.

    Args:
        name: "SGD" (with momentum) or "Adam".
        learning_rate: Above 0.
        momentum: 0 to 1, of SGD.
        clip_norm: Norm to which the gradient of all weights together is clipped; None or 0 does not clip.
    """
    clip = {"global_clipnorm": clip_norm} if clip_norm else {}
    if name == "Adam":
        return keras.optimizers.Adam(learning_rate, **clip)
    return keras.optimizers.SGD(learning_rate, momentum=momentum, **clip)


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
    stage = {"layers": LAYER_REGEX.get(layers, layers), "learning_rate": float(learning_rate)}
    _resume(model, stage)
    training = DataGenerator(
        train_dataset,
        config,
        augmentation=augmentation,
        seed=config.SEED,
        no_augmentation_sources=no_augmentation_sources,
    )
    validation = DataGenerator(
        val_dataset, config, shuffle=False, seed=config.SEED, steps=config.VALIDATION_STEPS, workers=0
    )
    training.epoch = validation.epoch = model.epoch
    log_dir = Path(model.log_dir)
    log_dir.mkdir(parents=True, exist_ok=True)
    print(f"\nStarting at epoch {model.epoch}. LR={learning_rate}. {len(names)} layers learn.")
    print(f"Checkpoint path: {model.checkpoint_path}")
    callbacks = [
        *(custom_callbacks or ()),
        ResumableCSVLogger(log_dir / "training.csv"),
        tensorboard_callback(log_dir),
        _DivergenceGuard(model),
        _EpochCounter(model),
        EpochCheckpoint(model.checkpoint_path, seed=config.SEED, stage=stage),
    ]
    return model.keras_model.fit(
        training,
        initial_epoch=model.epoch,
        epochs=epochs,
        steps_per_epoch=config.STEPS_PER_EPOCH,
        validation_data=validation,
        validation_steps=config.VALIDATION_STEPS,
        callbacks=[callback for callback in callbacks if callback is not None],
    )


def _resume(model: MaskRCNN, stage: dict[str, Any]) -> None:
    """Restores optimizer and random generators if the checkpoint was written in this very stage."""
    state, model.training_state = model.training_state, None
    if state is None or state.epoch != model.epoch or state.stage != stage:
        return
    optimizer = model.keras_model.optimizer
    optimizer.build(model.keras_model.trainable_variables)
    restore_training_state(model.keras_model, optimizer, state)


class TrainingDivergedError(ValueError):
    """The loss is no number any more."""


class _DivergenceGuard(keras.callbacks.Callback):
    """Stops a training whose loss became infinite or NaN, before its weights are written."""

    def __init__(self, owner: MaskRCNN):
        super().__init__()
        self.owner = owner

    def on_train_batch_end(self, batch, logs=None):
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(float(loss)):
            raise TrainingDivergedError(
                f"The loss became {float(loss)} in step {batch + 1} of epoch {self.owner.epoch + 1}. "
                f"The weights of the last finished epoch are in {self.owner.log_dir}; try a lower learning rate."
            )


class _EpochCounter(keras.callbacks.Callback):
    """Keeps `MaskRCNN.epoch` right also when training is interrupted."""

    def __init__(self, owner: MaskRCNN):
        super().__init__()
        self.owner = owner

    def on_epoch_end(self, epoch, logs=None):
        self.owner.epoch = epoch + 1
