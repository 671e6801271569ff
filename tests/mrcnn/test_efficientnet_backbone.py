"""EfficientNet-Lite0 as a backbone: shapes, names, shipped weights, and training from them."""

import shutil
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from mrcnn.anchors import compute_backbone_shapes
from mrcnn.backbone import lite_pixels
from mrcnn.data import DataGenerator
from mrcnn.image_meta import mold_inputs
from mrcnn.model import MaskRCNN
from mrcnn.weights import download_imagenet, is_imagenet_file, load_imagenet
from trainkit.compiled import precision_scope
from trainkit.hdf5 import WeightsFileError
from trainkit.hdf5_layout import read_layers
from trainkit.imagenet import SHIPPED

BACKBONE = "efficientnet-lite0"
FILE = download_imagenet(BACKBONE)
# Name of the layer whose output is the stage, its stride and its channels.
STAGES = (
    ("block2b_add", 4, 24),
    ("block3b_add", 8, 40),
    ("block5c_add", 16, 112),
    ("block7a_project_conv_bn", 32, 320),
)


@pytest.fixture(scope="module")
def model(tiny_config, tmp_path_factory):
    """A tiny Mask R-CNN on this backbone with random weights, for images of any size."""
    config = tiny_config(BACKBONE=BACKBONE, IMAGE_RESIZE_MODE="pad64", IMAGE_MIN_DIM=64)
    return MaskRCNN("inference", config, tmp_path_factory.mktemp("logs"))


@pytest.fixture(scope="module")
def published():
    """Arrays of the shipped file by layer and name."""
    return {name: arrays for name, arrays in read_layers(FILE).items() if arrays}


def backbone_layers(model):
    heads = ("fpn_", "rpn_", "mrcnn_")
    return {
        layer.name: layer for layer in model.keras_model.layers if layer.weights and not layer.name.startswith(heads)
    }


def arrays_of(layer):
    return {weight.name: np.array(keras.ops.convert_to_numpy(weight)) for weight in layer.weights}


def assert_equal(layer, expected):
    found = arrays_of(layer)
    assert found.keys() == expected.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name].astype(np.float32), err_msg=f"{layer.name}/{name}")


def test_excluded_layers_keep_their_weights_and_all_others_are_the_files(model, published):
    layers = backbone_layers(model)
    kept = {"stem_conv", "block5b_project_conv_bn"}
    before = {name: arrays_of(layers[name]) for name in kept}
    report = model.load_weights(FILE, by_name=True, exclude=sorted(kept))
    assert set(report.loaded) == set(published) - kept == set(layers) - kept
    for name in kept:
        assert_equal(layers[name], before[name])
    for name in set(layers) - kept:
        assert_equal(layers[name], published[name])


def test_the_shipped_weights_are_loaded_whole_and_without_a_network(model, published, monkeypatch):
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("nothing is fetched"))
    path = model.get_imagenet_weights()
    assert Path(path).name == SHIPPED[BACKBONE] and is_imagenet_file(path)
    assert set(model.load_weights(path, by_name=True).loaded) == set(published)
    for name, layer in backbone_layers(model).items():
        assert_equal(layer, published[name])


def test_a_file_that_lacks_a_layer_changes_nothing(model, tmp_path):
    path = shutil.copyfile(FILE, tmp_path / "cut.h5")
    with h5py.File(path, "r+") as file:
        names = [name for name in file.attrs["layer_names"] if name not in (b"block4a_depthwise", "block4a_depthwise")]
        file.attrs["layer_names"] = names
        del file["block4a_depthwise"]
    before = {name: arrays_of(layer) for name, layer in backbone_layers(model).items()}
    with pytest.raises(WeightsFileError, match=r"cut\.h5: weights of another backbone.*: block4a_depthwise$"):
        model.load_weights(path, by_name=True)
    for name, layer in backbone_layers(model).items():
        assert_equal(layer, before[name])


def test_other_backbones_refuse_the_file():
    image = keras.Input((64, 64, 3))
    with pytest.raises(WeightsFileError, match=r"another backbone; differing layers: block1a_depthwise"):
        load_imagenet(keras.Model(image, keras.layers.Conv2D(4, 3, name="conv1")(image)), FILE)


def test_stages_and_pyramid_fit_the_anchors_at_every_size(model, tiny_config):
    names = [name for name, *_ in STAGES] + [f"fpn_p{level}" for level in (2, 3, 4, 5, 6)]
    network = keras.Model(model.keras_model.inputs[0], [model.keras_model.get_layer(name).output for name in names])
    for height, width in ((100, 75), (64, 64), (130, 300)):
        molded, _, _ = model.mold_inputs([np.zeros((height, width, 3), np.uint8)])
        rows, columns = molded.shape[1:3]
        assert (rows, columns) == (-(-height // 64) * 64, -(-width // 64) * 64)
        shapes = [tuple(shape) for shape in network.compute_output_shape(molded.shape)]
        assert shapes[:4] == [(1, rows // stride, columns // stride, channels) for _, stride, channels in STAGES]
        levels = compute_backbone_shapes(model.config, molded.shape[1:])
        assert [shape[1:3] for shape in shapes[4:]] == [tuple(level) for level in levels.tolist()]
    (found,) = model.detect([np.random.default_rng(0).integers(0, 256, (100, 75, 3), np.uint8)])
    assert found["masks"].shape[:2] == (100, 75)
    with pytest.raises(ValueError, match=r"multiples of 64.*Received: 100 x 75"):
        mold_inputs([np.zeros((100, 75, 3), np.uint8)], tiny_config(BACKBONE=BACKBONE, IMAGE_RESIZE_MODE="none"))


@pytest.mark.parametrize(
    ("layers", "blocks"), [("3+", "34567"), ("4+", "4567"), ("5+", "67"), ("heads", ""), ("block[67].*", "67")]
)
def test_sets_of_layers_begin_where_a_stage_does(model, layers, blocks):
    model.set_trainable(layers, verbose=0)
    learning = {name for name, layer in backbone_layers(model).items() if layer.trainable}
    assert learning == {name for name in backbone_layers(model) if name[:6] in {f"block{block}" for block in blocks}}
    assert model.keras_model.get_layer("fpn_p2").trainable == layers.endswith(("+", "heads"))


@pytest.mark.backend
def test_pixels_are_scaled_in_float32_also_under_mixed_precision():
    pixels = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3)).astype(np.float32)
    mean = np.array([43.53, 39.56, 48.22])
    image = keras.Input((8, 8, 3))
    with precision_scope("mixed_bfloat16"):
        scaled = keras.Model(image, lite_pixels(image, mean))(pixels - mean.astype(np.float32))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(scaled), (pixels - 127) / 128, atol=1e-6)


def new_training(config, folder):
    keras.utils.set_random_seed(1)
    model = MaskRCNN("training", config, folder)
    model.load_weights(model.get_imagenet_weights(), by_name=True)
    return model


@pytest.mark.parametrize("train_bn", [False, True])
def test_a_step_lowers_the_loss_of_its_batch(tiny_config, shapes, tmp_path, eager, train_bn):
    # RoIs from the data, since those of a new RPN have no positives; and all, since a sample differs from step to step.
    rois = {"POST_NMS_ROIS_TRAINING": 60, "TRAIN_ROIS_PER_IMAGE": 60, "ROI_POSITIVE_RATIO": 1.0}
    config = tiny_config(BACKBONE=BACKBONE, TRAIN_BN=train_bn, OPTIMIZER="AdamW", USE_RPN_ROIS=False, **rois)
    model = new_training(config, tmp_path)
    model.set_trainable("all", verbose=0)
    model.compile(0.0003, 0.9)
    (batch,) = DataGenerator(shapes(objects=(6,)), config, seed=0)[0]
    before = {name: arrays_of(layer) for name, layer in backbone_layers(model).items()}
    losses = []
    for _ in range(2):
        model.keras_model.reset_metrics()
        losses.append(float(model.keras_model.train_on_batch(batch, return_dict=True)["loss"]))
    assert losses[0] > losses[1] > 0
    after = {name: arrays_of(layer) for name, layer in backbone_layers(model).items()}
    assert all((before[name]["kernel"] != after[name]["kernel"]).any() for name in before if "kernel" in before[name])
    moved = [
        (before[name]["moving_mean"] != after[name]["moving_mean"]).any() for name in before if name.endswith("bn")
    ]
    assert all(moved) if train_bn else not any(moved)


def test_a_stopped_training_resumes_from_its_checkpoint(tiny_config, shapes, tmp_path, eager):
    config = tiny_config(BACKBONE=BACKBONE, OPTIMIZER="AdamW", VALIDATION_STEPS=0)
    started = new_training(config, tmp_path)
    assert started.epoch == 0 and started.checkpoint is None, "the shipped weights are no checkpoint"
    started.train(shapes(), shapes(), 0.001, epochs=1, layers="4+")
    checkpoint = started.find_last()
    assert not is_imagenet_file(checkpoint), "it has the heads too"
    expected = {name: arrays_of(layer) for name, layer in backbone_layers(started).items()}

    resumed = MaskRCNN("training", config, tmp_path)
    resumed.load_weights(checkpoint)
    assert (resumed.epoch, resumed.log_dir) == (1, started.log_dir)
    for name, layer in backbone_layers(resumed).items():
        assert_equal(layer, expected[name])
    resumed.train(shapes(), shapes(), 0.001, epochs=2, layers="4+")
    assert int(resumed.keras_model.optimizer.iterations) == 2
    after = {name: arrays_of(layer) for name, layer in backbone_layers(resumed).items()}
    for name, arrays in after.items():
        frozen = name[:6] in ("stem_c", "block1", "block2", "block3")
        assert frozen == all((arrays[key] == expected[name][key]).all() for key in arrays), name
