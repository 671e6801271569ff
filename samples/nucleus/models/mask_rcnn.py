"""What the application does with a Mask R-CNN that it does otherwise with another model; see `nucleus.models.registry`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import keras

from mrcnn.model import MaskRCNN
from mrcnn.weights import download_coco
from nucleus.augmentation.augmenters import make_augmentation
from nucleus.datasets.dataset import NucleusDataset
from nucleus.models.config import NucleusConfig
from trainkit.stages import lay_out_stages

# Layers whose shape depends on the number of classes, 81 in COCO.
_COCO_HEADS = ["mrcnn_class_logits", "mrcnn_bbox_fc", "mrcnn_bbox", "mrcnn_mask"]
# Settings of a training from random weights: batch normalisation learns too.
FROM_SCRATCH = {"TRAIN_BN": None}


def build(config: NucleusConfig, model_dir: str | os.PathLike) -> MaskRCNN:
    """Builds the model that detects, with random weights."""
    return MaskRCNN(mode="inference", config=config, model_dir=str(model_dir))


def start(config: NucleusConfig, model_dir: str | os.PathLike, weights: str, path: Path | None) -> MaskRCNN:
    """Builds the model that trains, with the weights that it begins with; see `nucleus.training.training.start`."""
    model = MaskRCNN(mode="training", config=config, model_dir=str(model_dir))
    if weights == "coco":
        model.load_weights(download_coco(), by_name=True, exclude=_COCO_HEADS)
    elif weights == "imagenet":
        model.load_weights(model.get_imagenet_weights(), by_name=True)
    elif path is not None:
        model.load_weights(path, by_name=weights != "last")
    return model


def train(
    model: MaskRCNN,
    train_dataset: NucleusDataset,
    val_dataset: NucleusDataset,
    epochs: int | None,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    """Trains through STAGES; see `nucleus.training.training.train`."""
    config = model.config
    augmentation = make_augmentation(config.AUGMENTATION)
    for stage in lay_out_stages(config.STAGES, config.LEARNING_RATE, epochs):
        if stage.until <= model.epoch:
            continue
        print(f"Training {stage.layers} until epoch {stage.until}, learning rate {stage.learning_rate:g}")
        model.train(
            train_dataset,
            val_dataset,
            learning_rate=stage.learning_rate,
            epochs=stage.until,
            layers=stage.layers,
            augmentation=augmentation,
            custom_callbacks=list(callbacks),
        )


def scored(model: MaskRCNN, inference_config: NucleusConfig) -> tuple[MaskRCNN, Callable[[], None]]:
    """Returns the model that detects with what another learns, and what brings it up to date.

    A Mask R-CNN in training is another graph than in detection.
    """
    twin = model.inference_twin(inference_config)
    return twin, lambda: twin.copy_weights_from(model)
