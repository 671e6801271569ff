"""The meta vector survives packing, and images their normalisation; unusable batches are refused."""

import numpy as np
import pytest
from keras import ops

from mrcnn import image_meta
from mrcnn.config import Config


class SmallConfig(Config):
    NUM_CLASSES = 3
    IMAGE_MIN_DIM = IMAGE_MAX_DIM = 64
    MEAN_PIXEL = np.array([10.0, 20.0, 30.5])


FACTS = {
    "image_id": 7,
    "original_image_shape": (30, 40, 3),
    "image_shape": (64, 64, 3),
    "window": (8, 0, 56, 64),
    "scale": 1.6,
    "active_class_ids": [1, 0, 1],
}


@pytest.mark.parametrize("parse", [image_meta.parse_image_meta, image_meta.parse_image_meta_graph])
def test_parsing_returns_what_was_composed(parse):
    meta = np.stack([image_meta.compose_image_meta(**FACTS)] * 2)
    assert meta.shape == (2, SmallConfig().IMAGE_META_SIZE)
    if parse is image_meta.parse_image_meta_graph:
        meta = ops.convert_to_tensor(meta)
    for name, values in parse(meta).items():
        for value in ops.convert_to_numpy(values):
            np.testing.assert_allclose(value, FACTS[name], rtol=1e-6)


def test_parsed_numbers_are_integers_but_the_scale():
    parsed = image_meta.parse_image_meta(image_meta.compose_image_meta(**FACTS)[None])
    assert {name: part.dtype for name, part in parsed.items()} == {
        name: np.float32 if name == "scale" else np.int32 for name in FACTS
    }


def test_molding_and_back():
    image = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    molded = image_meta.mold_image(image, SmallConfig())
    assert molded.dtype == np.float32
    np.testing.assert_allclose(molded[2, 3], image[2, 3] - np.array([10.0, 20.0, 30.5]))
    np.testing.assert_array_equal(image_meta.unmold_image(molded, SmallConfig()), image)
    assert image_meta.unmold_image(np.full((1, 1, 3), 400.0), SmallConfig()).tolist() == [[[255, 255, 255]]]


def test_mold_inputs_pads_images_of_different_sizes_to_one():
    config = SmallConfig()
    images = [np.full((30, 60, 3), 200, np.uint8), np.full((64, 64, 3), 100, np.uint8)]
    molded, metas, windows = image_meta.mold_inputs(images, config)
    assert molded.shape == (2, 64, 64, 3) and molded.dtype == np.float32
    assert windows.tolist() == [[16, 0, 48, 64], [0, 0, 64, 64]]
    np.testing.assert_allclose(molded[0, 40, 40], [190, 180, 169.5])
    np.testing.assert_allclose(molded[0, 0, 0], [-10, -20, -30.5])
    parsed = image_meta.parse_image_meta(metas)
    assert parsed["original_image_shape"].tolist() == [[30, 60, 3], [64, 64, 3]]
    np.testing.assert_array_equal(parsed["window"], windows)
    assert not parsed["active_class_ids"].any()


def test_mold_inputs_refuses_what_cannot_be_one_batch():
    config = SmallConfig()
    config.IMAGE_RESIZE_MODE = "none"
    with pytest.raises(ValueError, match=r"one size.*\(64, 64, 3\).*\(64, 128, 3\)"):
        image_meta.mold_inputs([np.zeros((64, 64, 3)), np.zeros((64, 128, 3))], config)
    with pytest.raises(ValueError, match=r"multiples of 64.*Received: 64 x 100"):
        image_meta.mold_inputs([np.zeros((64, 100, 3))], config)
    config.IMAGE_RESIZE_MODE = "crop"
    with pytest.raises(ValueError, match="training only"):
        image_meta.mold_inputs([np.zeros((64, 64, 3))], config)
