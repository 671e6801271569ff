"""A tiny Mask R-CNN and a toy dataset, shared by the tests of the network."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from mrcnn.config import Config
from mrcnn.layers import BatchNorm
from mrcnn.model import MaskRCNN
from mrcnn.utils import Dataset


def tiny_backbone(image, stage5, train_bn):
    """One convolution a stage, with the lineage's layer names."""
    x = keras.layers.Conv2D(8, 5, strides=4, padding="same", name="conv1")(image)
    x = BatchNorm(train_bn, name="bn_conv1")(x)
    stages = [keras.layers.Activation("relu", name="conv1_relu")(x)]
    for stage in (2, 3, 4, 5):
        x = keras.layers.Conv2D(
            8, 3, strides=1 if stage == 2 else 2, padding="same", activation="relu", name=f"res{stage}a_branch2a"
        )(stages[-1])
        stages.append(BatchNorm(train_bn, name=f"bn{stage}a_branch2a")(x))
    return stages


class TinyConfig(Config):
    """Small enough that a training step takes a fraction of a second."""

    NAME = "tiny"
    BACKBONE = staticmethod(tiny_backbone)
    NUM_CLASSES = 3
    IMAGES_PER_GPU = 1
    STEPS_PER_EPOCH = 1
    VALIDATION_STEPS = 1
    TOP_DOWN_PYRAMID_SIZE = 16
    RPN_CHANNELS = 16
    MASK_CHANNELS = 16
    FPN_CLASSIF_FC_LAYERS_SIZE = 32
    RPN_ANCHOR_SCALES = (8, 16, 32, 64, 128)
    RPN_TRAIN_ANCHORS_PER_IMAGE = 32
    PRE_NMS_LIMIT = 100
    POST_NMS_ROIS_TRAINING = 40
    POST_NMS_ROIS_INFERENCE = 30
    TRAIN_ROIS_PER_IMAGE = 16
    MAX_GT_INSTANCES = 6
    MINI_MASK_SHAPE = (28, 28)
    IMAGE_MIN_DIM = IMAGE_MAX_DIM = 64
    MEAN_PIXEL = np.array([60.0, 60.0, 60.0])
    DETECTION_MAX_INSTANCES = 20
    DETECTION_MIN_CONFIDENCE = 0
    DATA_WORKERS = 0


class Shapes(Dataset):
    """Images of 64 x 80 pixels with bright squares (class 1) and dark ones (class 2), `objects[i]` on image i."""

    def __init__(self, objects=(3, 4), channels=3):
        super().__init__()
        self.objects, self.channels = objects, channels
        self.add_class("shapes", 1, "bright")
        self.add_class("shapes", 2, "dark")
        for index in range(len(objects)):
            self.add_image("shapes", index, None)
        self.prepare()

    def load_image(self, image_id):
        image = np.full((64, 80, self.channels), 100, np.uint8)
        image += np.random.default_rng(image_id).integers(0, 20, image.shape, np.uint8)
        masks, class_ids = self.load_mask(image_id)
        for index, class_id in enumerate(class_ids):
            image[masks[:, :, index]] = 220 if class_id == 1 else 10
        return image

    def load_mask(self, image_id):
        count = self.objects[image_id]
        masks = np.zeros((64, 80, count), bool)
        for index in range(count):
            y, x = 4 + 20 * (index // 4), 3 + 19 * (index % 4)
            masks[y : y + 14, x : x + 12 + index % 3, index] = True
        return masks, np.arange(count, dtype=np.int32) % 2 + 1


def make_config(**settings) -> Config:
    """Returns a tiny configuration with other settings, made the lineage's way."""
    return type("Changed", (TinyConfig,), settings)()


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., Config]:
    """Returns a function that makes a tiny configuration, attributes by keyword."""
    return make_config


@pytest.fixture(scope="session")
def shapes() -> type[Shapes]:
    """The toy dataset's class."""
    return Shapes


@pytest.fixture(scope="session")
def detector(tmp_path_factory) -> MaskRCNN:
    """A tiny model in inference mode with random weights that answers with a few objects; do not change it."""
    keras.utils.set_random_seed(1)
    model = MaskRCNN("inference", make_config(), tmp_path_factory.mktemp("logs"))
    enliven(model.keras_model)
    return model


def enliven(model: keras.Model) -> None:
    """Gives a fresh network answers that differ from place to place: class scores and masks near both ends."""
    rng = np.random.default_rng(3)
    for name, factor in (("mrcnn_class_logits", 20.0), ("mrcnn_mask", 8.0)):
        kernel, bias = model.get_layer(name).weights
        kernel.assign(rng.normal(0, factor / np.sqrt(kernel.shape[-2]), kernel.shape).astype(np.float32))
        bias.assign(rng.normal(0, 0.1, bias.shape).astype(np.float32))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the files that the tests compare with."""
    return Path(__file__).parent / "data"


@pytest.fixture
def only_tensorflow() -> None:
    """Skips a test that compares with TensorFlow's kernels."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("needs TensorFlow's kernels")


@pytest.fixture(scope="session")
def run_layer() -> Callable[..., Any]:
    """Returns a function that calls a layer on arrays, and checks its `compute_output_spec` against the outputs."""
    return _run_layer


def _tensor(array):
    return ops.convert_to_tensor(np.asarray(array, np.float32) if np.asarray(array).dtype.kind == "f" else array)


def _run_layer(layer, *arrays, **options):
    """Returns the layer's outputs as arrays; `options` are arguments of the call."""
    inputs = [_tensor(array) for array in arrays]
    inputs = inputs if len(inputs) > 1 else inputs[0]
    promised = layer.compute_output_spec(ops.convert_to_tensor(inputs) if len(arrays) == 1 else inputs)
    if keras.backend.backend() == "jax" and not layer.weights:
        outputs = _run_compiled(layer, inputs)
    else:
        outputs = layer(inputs, **options)
    for spec, output in zip(keras.tree.flatten(promised), keras.tree.flatten(outputs), strict=True):
        assert tuple(spec.shape) == tuple(output.shape)
        assert spec.dtype == keras.backend.standardize_dtype(output.dtype)
    return keras.tree.map_structure(ops.convert_to_numpy, outputs)


def _run_compiled(layer, inputs):
    """Calls a layer in one piece: JAX would compile its operations one by one, which takes far longer."""
    import jax

    layer.build(keras.tree.map_structure(lambda array: array.shape, inputs))
    return jax.jit(lambda states, arrays: layer.stateless_call([], states, arrays)[0])(
        [variable.value for variable in layer.non_trainable_variables], inputs
    )


@pytest.fixture(scope="session")
def decode_one() -> Callable[..., np.ndarray]:
    """Returns a function that moves one box `[4]` by its deltas `[4]`, from the definition."""

    def decode(box, delta):
        height, width = box[2] - box[0], box[3] - box[1]
        y, x = box[0] + height / 2 + delta[0] * height, box[1] + width / 2 + delta[1] * width
        height, width = height * np.exp(delta[2]), width * np.exp(delta[3])
        return np.array([y - height / 2, x - width / 2, y + height / 2, x + width / 2])

    return decode


@pytest.fixture(scope="session")
def check_settings() -> Callable[[keras.layers.Layer], None]:
    """Returns a function that serialises a layer and compares the restored one's settings."""

    def check(layer):
        restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
        assert type(restored) is type(layer)
        assert restored.get_config() == layer.get_config()

    return check
