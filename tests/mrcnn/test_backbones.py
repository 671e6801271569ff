"""A backbone is one entry in a dictionary, or a function of the user's own."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from mrcnn.backbones import BACKBONES, Backbone
from mrcnn.model import MaskRCNN


def pooled_backbone(image, stage5=True, train_bn=False):
    """Five convolutions with names of their own, whose sizes are rounded up as BACKBONE_STRIDES say."""
    x = keras.layers.Conv2D(4, 7, strides=4, padding="same", activation="relu", name="stem")(image)
    stages = [x]
    for level, stride in ((2, 1), (3, 2), (4, 2), (5, 2)):
        x = keras.layers.Conv2D(4, 3, strides=stride, padding="same", activation="relu", name=f"block{level}")(x)
        stages.append(x)
    return stages


def test_an_entry_is_enough_to_build_train_and_detect(tiny_config, shapes, tmp_path, eager, monkeypatch):
    monkeypatch.setitem(BACKBONES, "pooled", Backbone(pooled_backbone, stage_layers=("block3", "block4", "block5")))
    config = tiny_config().update({"BACKBONE": "pooled"})
    model = MaskRCNN("training", config, tmp_path)
    before = {name: model.keras_model.get_layer(name).get_weights()[0] for name in ("stem", "block3", "block4")}

    model.set_trainable("4+", verbose=0)
    learning = {layer.name for layer in model.keras_model.layers if layer.weights and layer.trainable}
    assert {"block4", "block5", "fpn_p2", "mrcnn_mask"} <= learning
    assert not learning & {"stem", "block2", "block3"}

    history = model.train(shapes(), shapes(), 0.01, epochs=1, layers="4+")
    assert np.isfinite(history.history["loss"]).all()
    after = {name: model.keras_model.get_layer(name).get_weights()[0] for name in before}
    assert [(before[name] != after[name]).any() for name in before] == [False, False, True]

    (found,) = model.inference_twin(config).detect([shapes().load_image(0)])
    assert found["masks"].shape[:2] == (64, 80)
    with pytest.raises(ValueError, match="ImageNet weights exist for"):
        model.get_imagenet_weights()


def test_a_function_as_backbone_needs_no_shapes(tiny_config, tmp_path, eager):
    config = tiny_config(BACKBONE=staticmethod(pooled_backbone), IMAGE_MIN_DIM=128, IMAGE_MAX_DIM=128)
    model = MaskRCNN("inference", config, tmp_path)
    (found,) = model.detect([np.full((128, 100, 3), 90, np.uint8)])
    assert found["masks"].shape == (128, 100, len(found["rois"]))


def test_settings_are_checked_without_keras():
    code = "import sys, mrcnn.config; mrcnn.config.Config().validate(); assert 'keras' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
