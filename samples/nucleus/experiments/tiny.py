"""Tiny networks of random weights, which are built and trained for a step in seconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from nucleus.models.registry import NETWORKS, make_config

_TINY = {
    "STEPS_PER_EPOCH": 1,
    "VALIDATION_STEPS": 0,
    "EVALUATE_EVERY": 0,
    "DATA_WORKERS": 0,
    # The many speckles of an untrained network take long to score.
    "MIN_AREA": 100,
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
    return {**settings, **_TINY, **NETWORKS[model].tiny_settings(config), "STAGES": stages}


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
