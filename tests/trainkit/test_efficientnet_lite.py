"""The Keras graph with the shipped weights computes what PyTorch computed with the published ones."""

from pathlib import Path

import keras
import numpy as np
import pytest

from trainkit.efficientnet_lite import PIXEL_MEAN, PIXEL_SCALE, efficientnet_lite0_features
from trainkit.hdf5 import load_weights
from trainkit.imagenet import download_imagenet

pytestmark = pytest.mark.backend

# Written by tools/convert_efficientnet_lite.py from PyTorch's own operations on the halved weights.
EXPECTED = Path(__file__).parent / "data" / "efficientnet_lite0_features.npz"


def test_features_equal_those_of_pytorch():
    image = keras.Input((None, None, 3))
    model = keras.Model(image, efficientnet_lite0_features(image))
    load_weights(model, download_imagenet("efficientnet-lite0"), by_name=False)
    expected = np.load(EXPECTED)
    features = model((expected["image"].astype(np.float32) - PIXEL_MEAN) / PIXEL_SCALE)
    assert [(stride, tensor.shape[-1]) for stride, tensor in features.items()] == [
        (2, 16),
        (4, 24),
        (8, 40),
        (16, 112),
        (32, 320),
    ]
    for stride, tensor in features.items():
        # Of the finer maps every fourth row and column was kept.
        every = 4 if stride < 8 else 1
        ours = keras.ops.convert_to_numpy(tensor)[:, ::every, ::every]
        theirs = expected[f"stride_{stride}"]
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())


def test_batch_normalisation_can_be_another():
    made = []

    def frozen(**options):
        made.append(options)
        return keras.layers.BatchNormalization(trainable=False, **options)

    image = keras.Input((64, 64, 3))
    model = keras.Model(image, efficientnet_lite0_features(image, frozen)[32])
    assert len(made) == sum(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers)
    assert {options["epsilon"] for options in made} == {1e-3}
    assert not any("gamma" in weight.path for weight in model.trainable_weights)
