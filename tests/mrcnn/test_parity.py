"""The network computes what the lineage's computes, from its weights files (see data/parity/README.md)."""

import json
import zlib

import h5py
import keras
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from mrcnn.compiled import compile_inference
from mrcnn.config import Config
from mrcnn.model import MaskRCNN

SEED = "parity2"
# Factors on the kernels of some layers, which keep the boxes of random weights finite and let their scores differ.
KERNEL_FACTORS = {
    "conv1/": 0.02,
    "branch2c": 0.3,
    "rpn_bbox_pred": 0.01,
    "rpn_class_raw": 0.5,
    "mrcnn_bbox_fc": 0.3,
    "mrcnn_class_logits": 6.0,
}
OUTPUTS = ("detections", "mrcnn_class", "mrcnn_bbox", "mrcnn_mask", "rpn_rois", "rpn_class", "rpn_bbox")


class ParityConfig(Config):
    NAME = "parity"
    IMAGES_PER_GPU = 1
    NUM_CLASSES = 2
    BACKBONE = "resnet50"
    IMAGE_MIN_DIM = IMAGE_MAX_DIM = 256
    RPN_ANCHOR_SCALES = (8, 16, 32, 64, 128)
    MEAN_PIXEL = np.array([43.53, 39.56, 48.22])
    POST_NMS_ROIS_INFERENCE = 300
    DETECTION_MAX_INSTANCES = 60
    DETECTION_MIN_CONFIDENCE = 0


def formula_weight(name, shape):
    """The weight of this name: He-normal kernels, scales and variances around 1, all else around 0."""
    rng = np.random.default_rng(zlib.crc32(f"{SEED}/{name}".encode()))
    kind = name.rpartition("/")[2].partition(":")[0]
    if kind == "kernel":
        inputs = np.prod(shape[:-1])
        if "deconv" in name:  # [h, w, out, in], and each output pixel sees one of the four taps
            inputs = shape[0] * shape[1] * shape[3] / 4
        factor = next((value for part, value in KERNEL_FACTORS.items() if part in name), 1.0)
        return (rng.standard_normal(shape) * np.sqrt(2.0 / inputs) * factor).astype(np.float32)
    if kind in ("gamma", "moving_variance"):
        return rng.uniform(0.8, 1.2, shape).astype(np.float32)
    return (0.05 * rng.standard_normal(shape)).astype(np.float32)


def read_layout(data_dir, name):
    return json.loads((data_dir / "parity" / f"{name}.layout.json").read_text())


@pytest.fixture(scope="module")
def expected(data_dir):
    with np.load(data_dir / "parity" / "expected_resnet50.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def legacy_file(data_dir, tmp_path_factory):
    """A weights file as Keras 2 wrote it."""
    path = tmp_path_factory.mktemp("legacy") / "resnet50.h5"
    layout = read_layout(data_dir, "resnet50")
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [np.bytes_(group["layer"]) for group in layout]
        for group in layout:
            folder = file.create_group(group["layer"])
            folder.attrs["weight_names"] = [np.bytes_(name) for name, _ in group["weights"]]
            for name, shape in group["weights"]:
                folder.create_dataset(name, data=formula_weight(name, shape))
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def model(legacy_file, tmp_path_factory):
    model = MaskRCNN("inference", ParityConfig(), tmp_path_factory.mktemp("logs"))
    report = model.load_weights(legacy_file, by_name=True)
    assert not report.missing
    assert not report.unused
    return model


@pytest.mark.backend
def test_raw_outputs(model, expected):
    molded, metas, windows = model.mold_inputs([expected["image"]])
    # Both interpolate the same way but round to whole grey levels; a few values fall on the other side.
    assert np.abs(molded - expected["molded"]).max() <= 1
    assert (np.abs(molded - expected["molded"]) > 1e-3).mean() < 2e-4
    np.testing.assert_array_equal(windows, expected["window"])
    anchors = model.get_anchors(molded.shape[1:])
    np.testing.assert_allclose(anchors, expected["anchors"], atol=1e-6)
    values = compile_inference(model.keras_model)(expected["molded"], metas, anchors[None])
    for name, value in zip(OUTPUTS, values, strict=True):
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(value), expected[name].astype(np.float32), atol=1e-3, err_msg=name
        )


def test_detect(model, expected):
    (found,) = model.detect([expected["image"]])
    shape = expected["masks_shape"]
    masks = np.unpackbits(expected["masks"], count=int(np.prod(shape))).reshape(shape).astype(bool)
    np.testing.assert_array_equal(masks.sum(axis=(0, 1)), expected["mask_areas"])
    assert found["masks"].shape == masks.shape
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-3)
    # Detections with nearly the same score may change places.
    distance = np.abs(found["rois"][:, None] - expected["rois"][None]).max(axis=-1)
    difference = np.abs(found["scores"][:, None] - expected["scores"][None])
    ours, theirs = linear_sum_assignment(distance + 1000 * difference)
    assert distance[ours, theirs].max() <= 1, "pixels, by rounding"
    assert difference[ours, theirs].max() <= 1e-3
    np.testing.assert_array_equal(found["class_ids"][ours], expected["class_ids"][theirs])
    same_box = ours[distance[ours, theirs] == 0], theirs[distance[ours, theirs] == 0]
    assert len(same_box[0]) > 50
    differing = (found["masks"][..., same_box[0]] != masks[..., same_box[1]]).sum(axis=(0, 1))
    areas = expected["mask_areas"][same_box[1]]
    assert (differing <= 1 + 0.02 * areas).all(), "pixels differ where a probability is at the threshold, nowhere else"


def test_written_files_have_the_layout_of_the_lineage(model, data_dir, tmp_path):
    model.save_weights(tmp_path / "written.h5", dtype="float16")
    with h5py.File(tmp_path / "written.h5") as file:
        written = {}
        for layer in file.attrs["layer_names"]:
            names = [name.decode() for name in file[layer].attrs["weight_names"]]
            if names:
                written[layer.decode()] = [[name, list(file[layer][name].shape)] for name in names]
    (tmp_path / "written.h5").unlink()
    layout = {group["layer"]: group["weights"] for group in read_layout(data_dir, "resnet50") if group["weights"]}
    assert written == layout
    assert "rpn_conv_shared/kernel:0" in [name for name, _ in written["rpn_model"]]


class ResNet101(ParityConfig):
    BACKBONE = "resnet101"


class Coco(ResNet101):
    NUM_CLASSES = 81


def test_parameters_of_resnet101_with_two_classes(tmp_path):
    assert MaskRCNN("inference", ResNet101(), tmp_path).keras_model.count_params() == 63_733_406


def test_weights_have_the_shapes_of_the_coco_file(data_dir, tmp_path):
    model = MaskRCNN("inference", Coco(), tmp_path).keras_model
    layout = {group["layer"]: group["weights"] for group in read_layout(data_dir, "resnet101") if group["weights"]}
    assert {layer.name for layer in model.layers if layer.weights} == set(layout)
    for layer, weights in layout.items():
        assert [list(weight.shape) for weight in model.get_layer(layer).weights] == [shape for _, shape in weights]
