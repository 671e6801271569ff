"""Tiny networks of random weights, which are built and trained for a step in seconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from nucleus.models.registry import make_config
from nucleus.models.unet import NucleusUNetConfig

_SIDE = 64
# Filters of a plain encoder's level are divided by this.
_NARROWER = 16
_DECODER_FILTERS = 16
# ResNets are replaced by the shallowest one, which is built of the same blocks.
_DEEP, _LEAST_DEEP = ("resnet101", "resnet152"), "resnet50"

_TINY = {
    "STEPS_PER_EPOCH": 1,
    "VALIDATION_STEPS": 0,
    "EVALUATE_EVERY": 0,
    "DATA_WORKERS": 0,
    # The many speckles of an untrained network take long to score.
    "MIN_AREA": 100,
}
_TINY_UNET = {
    **_TINY,
    "IMAGE_SIZE": _SIDE,
    "BATCH_SIZE": 1,
}
_TINY_MASK_RCNN = {
    **_TINY,
    "IMAGE_MIN_DIM": 2 * _SIDE,
    "IMAGE_MAX_DIM": 2 * _SIDE,
    "IMAGE_MIN_SCALE": 0,
    "IMAGES_PER_GPU": 1,
    "TOP_DOWN_PYRAMID_SIZE": 32,
    "FPN_CLASSIF_FC_LAYERS_SIZE": 32,
    "RPN_CHANNELS": 32,
    "MASK_CHANNELS": 16,
    "RPN_TRAIN_ANCHORS_PER_IMAGE": 32,
    "PRE_NMS_LIMIT": 200,
    "POST_NMS_ROIS_TRAINING": 50,
    "POST_NMS_ROIS_INFERENCE": 50,
    "TRAIN_ROIS_PER_IMAGE": 16,
    "MAX_GT_INSTANCES": 20,
    "DETECTION_MAX_INSTANCES": 20,
}


def tiny_settings(model: str, preset: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a training's settings with tiny image sizes, widths and stages of one epoch with one step.

    Args:
        model: Name in `nucleus.models.registry.NETWORKS`.
        preset: Name in the model's presets.
        settings: Attribute name -> value of the training, on top of the preset.
    """
    config = make_config("training", preset, settings, model)
    stages = tuple((layers, 1, *rate) for layers, _, *rate in config.STAGES)
    tiny = {**_TINY_UNET, **_narrow(config)} if isinstance(config, NucleusUNetConfig) else _TINY_MASK_RCNN
    return {**settings, **tiny, **_less_deep(config), "STAGES": stages}


@contextmanager
def uncompiled() -> Iterator[None]:
    """Runs TensorFlow eagerly inside a block: compiling takes minutes, too long for a few steps."""
    import keras

    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def _less_deep(config: Any) -> Mapping[str, Any]:
    """Returns ResNet-50 for a ResNet of more layers."""
    name = "ENCODER" if isinstance(config, NucleusUNetConfig) else "BACKBONE"
    return {name: _LEAST_DEEP} if getattr(config, name) in _DEEP else {}


def _narrow(config: NucleusUNetConfig) -> Mapping[str, Any]:
    """Returns few filters for the parts of a U-Net that have no published weights."""
    if config.ENCODER == "plain":
        return {"ENCODER_FILTERS": tuple(max(1, count // _NARROWER) for count in config.ENCODER_FILTERS)}
    return {"DECODER_FILTERS": (_DECODER_FILTERS,) * len(config.decoder_filters)}
