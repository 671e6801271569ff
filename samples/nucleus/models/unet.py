"""What the application does with a U-Net that it does otherwise with another model; see `nucleus.models.registry`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import keras

from nucleus.augmentation.augmenters import make_augmentation
from nucleus.datasets.dataset import NucleusDataset
from nucleus.models.config import NucleusUNetConfig
from unet.model import UNet
from unet.weights import holds_an_encoder_alone

# Settings of a training from random weights: the encoder's are random too.
FROM_SCRATCH = {"ENCODER_WEIGHTS": None}


def build(config: NucleusUNetConfig, model_dir: str | os.PathLike) -> UNet:
    """Builds the model, with random weights."""
    return UNet(config, model_dir)


def start(config: NucleusUNetConfig, model_dir: str | os.PathLike, weights: str, path: Path | None) -> UNet:
    """Builds the model with the weights that training begins with; see `nucleus.training.training.start`."""
    encoder_alone = path is not None and weights != "last" and holds_an_encoder_alone(path)
    if weights != "none":
        config.update({"ENCODER_WEIGHTS": str(path) if encoder_alone else "imagenet" if path is None else None})
    model = UNet(config, model_dir)
    if path is not None and not encoder_alone:
        model.load_weights(path, by_name=weights != "last")
    return model


def train(
    model: UNet,
    train_dataset: NucleusDataset,
    val_dataset: NucleusDataset,
    epochs: int | None,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    """Trains through STAGES; see `nucleus.training.training.train`."""
    # Every connected region is a nucleus to a U-Net, so what comes in from outside may be the mirror image.
    augmentation = make_augmentation(model.config.AUGMENTATION, mirror=True)
    model.train(train_dataset, val_dataset, epochs, augmentation, callbacks)


def scored(model: UNet, inference_config: NucleusUNetConfig) -> tuple[UNet, Callable[[], None]]:
    """Returns the model itself, which is the same in training and in detection, and nothing to do."""
    return model, lambda: None
