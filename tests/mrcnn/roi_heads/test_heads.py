"""Additions to the heads: layers that a configuration asks for, in training and in detection alike."""

import numpy as np

from mrcnn.graph import build_inference_graph
from mrcnn.model import MaskRCNN

# Of P2 to P5 of an image of 64 x 64 pixels.
SIDES = (16, 8, 4, 2)
EXTRA = {"BOX_HEAD_CHANNELS": 12, "MASK_END_CHANNELS": 5, "MASK_ACTIVATION": "softmax", "POOL_SAMPLES": 2}


def test_the_heads_have_the_layers_of_the_configuration(tiny_config, tmp_path):
    config = tiny_config(**EXTRA, RPN_INSIDE_ANCHORS=True)
    plain, extended = (MaskRCNN("inference", each, str(tmp_path)) for each in (tiny_config(), config))
    names = {layer.name for layer in extended.keras_model.layers}
    added = names - {layer.name for layer in plain.keras_model.layers}
    assert {"mrcnn_class_conv0", "mrcnn_class_bn0", "mrcnn_mask_conv5", "inside_anchors"} <= added
    shapes = {
        name: extended.keras_model.get_layer(name).kernel.shape
        for name in ("mrcnn_class_conv0", "mrcnn_mask_conv5", "mrcnn_mask")
    }
    assert shapes["mrcnn_class_conv0"] == (3, 3, config.TOP_DOWN_PYRAMID_SIZE, 12)
    assert shapes["mrcnn_mask_conv5"] == (3, 3, config.MASK_CHANNELS, 5)
    assert shapes["mrcnn_mask"] == (1, 1, 5, config.NUM_CLASSES)


def test_classes_share_every_pixel_of_a_softmax_mask(tiny_config):
    config = tiny_config(**EXTRA)
    rng = np.random.default_rng(0)
    image = rng.normal(size=(1, 64, 64, 3)).astype(np.float32)
    pyramid = [rng.normal(size=(1, side, side, config.TOP_DOWN_PYRAMID_SIZE)).astype(np.float32) for side in SIDES]
    boxes = np.array([[[0.1, 0.1, 0.6, 0.7], [0.2, 0.3, 0.9, 0.8]]], np.float32)
    extent = np.float32([image.shape[1:3]])
    masks = build_inference_graph(config).masks.predict([boxes, image, extent, *pyramid], verbose=0)
    assert masks.shape == (1, 2, 28, 28, config.NUM_CLASSES)
    np.testing.assert_allclose(masks.sum(axis=-1), 1, atol=1e-5)


def test_the_additional_layers_learn(tiny_config, shapes, tmp_path, eager):
    # RoIs around the objects, so that there are masks to learn.
    rois = {"USE_RPN_ROIS": False, "POST_NMS_ROIS_TRAINING": 300, "TRAIN_ROIS_PER_IMAGE": 30}
    model = MaskRCNN("training", tiny_config(**EXTRA, **rois), str(tmp_path))
    layers = [model.keras_model.get_layer(name) for name in ("mrcnn_class_conv0", "mrcnn_mask_conv5")]
    before = [np.array(layer.kernel) for layer in layers]
    model.train(shapes(), shapes(), 0.01, epochs=1, layers="heads")
    assert all((np.array(layer.kernel) != kernel).any() for layer, kernel in zip(layers, before, strict=True))
