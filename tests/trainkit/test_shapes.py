"""Images of many sizes make few graphs, of a U-Net and of a Mask R-CNN, also where every shape is compiled."""

import keras
import numpy as np
import pytest

from mrcnn.config import Config
from mrcnn.detector import Detector
from mrcnn.graph import InferenceGraph
from mrcnn.results import Instances
from trainkit.compiled import KEPT_GRAPHS, compile_inference, inference_shapes
from unet.config import UNetConfig
from unet.inference import predict_channels

# 300 images of 300 sizes.
SIZES = [(40 + (7 * index) % 89, 30 + index) for index in range(300)]


class Traced(keras.layers.Layer):
    """Counts how often a graph with it is traced, which is once for each that is compiled."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function, self.traces = function, 0

    def call(self, inputs):
        self.traces += 1
        return self.function(inputs)


def traced_network(inputs, function):
    layer = Traced(function)
    network = keras.Model(inputs, layer(inputs))
    layer.traces = 0
    return network, layer


@pytest.mark.backend
def test_300_sizes_of_images_compile_a_handful_of_graphs_of_a_u_net():
    network, layer = traced_network(keras.Input((None, None, 3)), lambda images: images / 255)
    compiled = compile_inference(network)
    config = UNetConfig.from_preset(settings={"ENCODER": "plain", "ENCODER_FILTERS": (4,) * 6, "DECODER": "plain"})
    images = [np.full((*size, 3), index % 256, np.uint8) for index, size in enumerate(SIZES)]
    found = predict_channels(
        lambda inputs: keras.ops.convert_to_numpy(compiled(inputs)), images, config, inference_shapes()
    )
    for image, probabilities in zip(images, found, strict=True):
        np.testing.assert_allclose(probabilities, image / np.float32(255), rtol=1e-6)
    if keras.backend.backend() != "torch":
        assert layer.traces <= 21 < KEPT_GRAPHS, "three heights from 64 to 128 by seven widths from 32 to 384"


def detection_graph(config):
    """A detection network that finds one object in the upper left quarter of every image, and its counted layers."""

    def detect(inputs):
        image, meta, _ = inputs
        zeros = keras.ops.zeros_like(meta[:, :1])
        row = keras.ops.concatenate([zeros, zeros, zeros + 0.25, zeros + 0.25, zeros + 1, zeros + 1], axis=1)[:, None]
        rows = keras.ops.pad(row, ((0, 0), (0, config.DETECTION_MAX_INSTANCES - 1), (0, 0)))
        return [rows, image[:, ::4, ::4]]

    def mask(inputs):
        boxes = inputs[0]
        shape = (*config.MASK_SHAPE, config.NUM_CLASSES)
        return keras.ops.broadcast_to(boxes[:, :, :1, None, None] + 1, (*keras.ops.shape(boxes)[:2], *shape))

    image, meta = keras.Input((None, None, 3)), keras.Input((config.IMAGE_META_SIZE,))
    detector, boxes_layer = traced_network([image, meta, keras.Input((None, 4))], detect)
    boxes, extent = keras.Input((None, 4)), keras.Input((2,))
    masks, masks_layer = traced_network([boxes, image, extent, keras.Input((None, None, 3))], mask)
    return InferenceGraph(detector, detector, masks), boxes_layer, masks_layer


@pytest.mark.backend
def test_300_sizes_of_images_compile_a_handful_of_graphs_of_a_mask_rcnn():
    class Padded(Config):
        NUM_CLASSES = 2
        IMAGE_RESIZE_MODE = "pad64"
        IMAGE_MIN_DIM = IMAGE_MAX_DIM = 64
        DETECTION_MAX_INSTANCES = 100

    graph, boxes_layer, masks_layer = detection_graph(Padded())
    images = [np.zeros((*size, 3), np.uint8) for size in SIZES]
    found = Detector(graph, Padded()).detect(images, batch_size=4)
    assert all(isinstance(one, Instances) and len(one) == 1 for one in found)
    if keras.backend.backend() != "torch":
        for layer in (boxes_layer, masks_layer):
            assert layer.traces <= 14 < KEPT_GRAPHS, "64 or 128 by seven widths from 64 to 768"
