"""`MaskRCNN` in inference: detection, looking inside, weights, names of layers."""

import keras
import numpy as np
import pytest

from mrcnn import graph
from mrcnn.config import RUN_FILES
from mrcnn.image_meta import compose_image_meta, mold_image
from mrcnn.model import MaskRCNN
from mrcnn.resizing import resize_image
from mrcnn.results import unmold_detections
from trainkit.runs import Run

RPN_TENSORS = {
    "ROI/pre_nms_anchors:0": (1, 100, 4),
    "ROI/refined_anchors:0": (1, 100, 4),
    "ROI/refined_anchors_clipped:0": (1, 100, 4),
    "ROI/rpn_non_max_suppression:0": (1, 30),
    "ROI": (1, 30, 4),
    "mrcnn_class": (1, 30, 3),
    "mrcnn_class_logits": (1, 30, 3),
    "mrcnn_bbox": (1, 30, 3, 4),
    "mrcnn_detection": (1, 20, 6),
    "mrcnn_mask": (1, 20, 28, 28, 3),
    "rpn_class": (1, 1023, 2),
    "rpn_bbox": (1, 1023, 4),
    "roi_align_classifier": (1, 30, 7, 7, 16),
    "fpn_p2": (1, 16, 16, 16),
    "conv1_relu": (1, 16, 16, 8),
}


@pytest.fixture(scope="module")
def images(shapes):
    dataset = shapes(objects=(5, 8))
    return [dataset.load_image(index) for index in dataset.image_ids]


def sibling(detector, config, tmp_path):
    """A model with other settings and the detector's weights."""
    model = MaskRCNN("inference", config, tmp_path)
    model.copy_weights_from(detector)
    return model


def assert_same(found, expected):
    assert len(found["scores"]) == len(expected["scores"])
    np.testing.assert_array_equal(found["class_ids"], expected["class_ids"])
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-4)
    np.testing.assert_allclose(found["rois"], expected["rois"], atol=1)


@pytest.mark.backend
def test_detect_answers_in_pixels_of_the_image(detector, images):
    (found,) = detector.detect([images[0]])
    rois, class_ids, scores, masks = (found[name] for name in ("rois", "class_ids", "scores", "masks"))
    count = len(rois)
    assert 1 < count <= 20
    assert (rois.dtype, class_ids.dtype, scores.dtype, masks.dtype) == (np.int32, np.int32, np.float32, bool)
    assert (rois.shape, class_ids.shape, scores.shape, masks.shape) == ((count, 4), (count,), (count,), (64, 80, count))
    assert (rois >= 0).all()
    assert (rois[:, 2:] <= [64, 80]).all()
    assert (rois[:, 2:] > rois[:, :2]).all()
    assert (np.diff(scores) <= 0).all()
    assert set(class_ids) <= {1, 2}
    assert masks.any()
    for index, (y1, x1, y2, x2) in enumerate(rois):
        masks[y1:y2, x1:x2, index] = False
    assert not masks.any(), "masks stay inside their boxes"


def test_masks_of_found_boxes_are_those_of_the_whole_graph(detector, images):
    molded, _, windows = detector.mold_inputs(images[:1])
    outputs = detector.keras_model.outputs
    arrays = detector.run_graph(images[:1], [("detections", outputs[0]), ("masks", outputs[3])])
    expected = unmold_detections(
        arrays["detections"][0], arrays["masks"][0], images[0].shape, molded.shape[1:], windows[0]
    )
    own_loop = detector.unmold_detections(
        arrays["detections"][0], arrays["masks"][0], images[0].shape, molded.shape[1:], windows[0]
    )
    for value, wanted in zip(own_loop, (expected.boxes, expected.class_ids, expected.scores), strict=False):
        np.testing.assert_array_equal(value, wanted)
    np.testing.assert_array_equal(own_loop[3], expected.masks())
    (found,) = detector.detect_instances(images[:1])
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    # One of them with batch norm folded into the convolutions: other roundings.
    np.testing.assert_allclose(found.mask_probabilities, expected.mask_probabilities, atol=1e-3)
    (as_dict,) = detector.detect(images[:1])
    np.testing.assert_array_equal(as_dict["masks"], found.masks())


def test_a_limit_that_is_reached_is_reported_once_an_image(detector, images, tiny_config, tmp_path, eager, caplog):
    none = sibling(detector, tiny_config(DETECTION_MIN_CONFIDENCE=1.1), tmp_path)
    assert len(none.detect(images[:1])[0]["scores"]) == 0
    few = sibling(detector, tiny_config(DETECTION_MAX_INSTANCES=2), tmp_path)
    assert [found.limit_reached for found in few.detect_instances(images[:2])] == [True, True]
    assert "DETECTION_MAX_INSTANCES" not in caplog.text, "who takes instances can ask them"
    few.detect(images[:2])
    molded, _, windows = few.mold_inputs(images[:1])
    few.detect_molded(molded, compose_image_meta(0, images[0].shape, molded.shape[1:], windows[0], 1, [1, 1, 1])[None])
    reported = [record.getMessage() for record in caplog.records if record.name == "mrcnn.model"]
    assert [message.split(":")[0] for message in reported] == ["Image 1 of 2", "Image 2 of 2", "Image 1 of 1"]
    assert all("DETECTION_MAX_INSTANCES=2 objects" in message for message in reported)


def test_batches_find_what_single_images_give(detector, images, tiny_config, tmp_path, eager):
    pair = sibling(detector, tiny_config(IMAGES_PER_GPU=2), tmp_path)
    three = [images[0], images[1], images[0][:48, :40]]
    together = pair.detect(three)
    assert [found["masks"].shape[:2] for found in together] == [(64, 80), (64, 80), (48, 40)]
    for image, found in zip(three, together, strict=True):
        (alone,) = detector.detect([image])
        assert_same(found, alone)
    assert pair.detect([]) == []


@pytest.mark.parametrize(
    ("mode", "sizes"), [("pad64", [(64, 80), (100, 64), (64, 80)]), ("none", [(64, 128), (128, 64), (64, 64)])]
)
def test_images_of_their_own_sizes(detector, tiny_config, tmp_path, eager, mode, sizes):
    config = tiny_config(IMAGE_RESIZE_MODE=mode, IMAGES_PER_GPU=2, IMAGE_MIN_DIM=64)
    model = sibling(detector, config, tmp_path)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (*size, 3), np.uint8) for size in sizes]
    for image, found in zip(images, model.detect(images), strict=True):
        (alone,) = model.detect([image])
        assert found["masks"].shape[:2] == image.shape[:2]
        assert (found["rois"][:, 2:] <= image.shape[:2]).all()
        assert_same(found, alone)


def test_sizes_that_share_a_graph_find_what_they_find_step_by_step(
    detector, tiny_config, tmp_path, only_tensorflow, request
):
    """Two sizes besides the first, which has a graph of its own; one has fewer anchors than PRE_NMS_LIMIT."""
    config = tiny_config(IMAGE_RESIZE_MODE="pad64", IMAGE_MIN_DIM=64, PRE_NMS_LIMIT=1100)
    model = sibling(detector, config, tmp_path)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (*size, 3), np.uint8) for size in [(64, 140), (64, 64), (100, 64)]]
    together = model.detect(images)
    request.getfixturevalue("eager")
    for image, found in zip(images, together, strict=True):
        (expected,) = model.detect([image])
        assert len(found["scores"]) > 0
        assert_same(found, expected)
        np.testing.assert_array_equal(found["masks"], expected["masks"])


def test_images_of_one_size_share_batches_wherever_they_stand(detector, monkeypatch):
    runner, batches = detector._detector, []

    def detect_molded(molded, metas, windows, shapes):
        batches.append(len(molded))
        return [shape[:2] for shape in shapes]

    monkeypatch.setattr(runner, "detect_molded", detect_molded)
    monkeypatch.setattr(
        "mrcnn.detector.mold_inputs", lambda images, _: (np.zeros((1, 64 * len(images[0]), 64, 3)), [0], [0])
    )
    heights = [1, 2, 1, 1, 2, 1, 1, 1, 1, 1]
    found = runner.detect([np.zeros((height, 5, 3)) for height in heights], batch_size=4)
    assert found == [(height, 5) for height in heights]
    assert batches == [4, 4, 2]


def test_an_image_without_detections(detector, images, tiny_config, tmp_path, eager):
    strict = sibling(detector, tiny_config(DETECTION_MIN_CONFIDENCE=1.1), tmp_path)
    (found,) = strict.detect(images[:1])
    assert (found["rois"].shape, found["masks"].shape) == ((0, 4), (64, 80, 0))
    assert len(found["class_ids"]) == len(found["scores"]) == 0


def test_detect_molded_answers_in_pixels_of_the_molded_image(detector, images):
    image, window, scale, _, _ = resize_image(images[0], max_dim=64, mode="square")
    meta = compose_image_meta(0, images[0].shape, image.shape, window, scale, np.zeros(3))
    (found,) = detector.detect_molded(mold_image(image, detector.config)[None], meta[None])
    (expected,) = detector.detect([images[0]])
    assert found["masks"].shape[:2] == (64, 64)
    assert found["rois"][:, 0].min() >= window[0], "nothing is found in the padding"
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-6)
    # Boxes of the original, shrunk and shifted; both were rounded to whole pixels.
    shift = np.array([window[0], window[1]] * 2)
    np.testing.assert_allclose(found["rois"], expected["rois"] * scale + shift, atol=2)


def test_verbose_prints_the_inputs(detector, images, capsys):
    detector.detect(images[:1], verbose=1)
    assert "Processing 1 images" in capsys.readouterr().out


@pytest.mark.parametrize("channels", [1, 4])
def test_other_numbers_of_channels(tiny_config, shapes, tmp_path, eager, channels):
    config = tiny_config(IMAGE_CHANNEL_COUNT=channels, MEAN_PIXEL=np.full(channels, 60.0))
    model = MaskRCNN("inference", config, tmp_path)
    (found,) = model.detect([shapes(channels=channels).load_image(0)])
    assert found["masks"].shape[:2] == (64, 80)


def test_half_precision_builds_and_detects_where_the_processor_has_it(
    tiny_config, images, tmp_path, eager, monkeypatch
):
    policy = keras.config.dtype_policy().name
    monkeypatch.setattr(graph, "resolve_precision", {"auto": "mixed_bfloat16"}.__getitem__)
    model = MaskRCNN("inference", tiny_config(PRECISION="auto"), tmp_path)
    assert keras.config.dtype_policy().name == policy, "the user's policy is left alone"
    assert model.keras_model.get_layer("fpn_p2").compute_dtype == "bfloat16"
    assert all(weight.dtype == "float32" for weight in model.keras_model.weights if "seed" not in weight.path)
    assert all(output.dtype == "float32" for output in model.keras_model.outputs)
    (found,) = model.detect(images[:1])
    assert np.isfinite(found["scores"]).all()


# ---- Looking inside --------------------------------------------------------------------------------------------


def test_run_graph_of_a_single_tensor_keeps_the_batch(detector, images, eager):
    logits = detector.ancestor(detector.keras_model.outputs[0], "rpn_class")
    (array,) = detector.run_graph(images[:1], [("logits", logits)]).values()
    assert array.shape[0] == 1 and array.ndim == len(logits.shape)


def test_run_graph_computes_what_the_notebooks_ask_for(detector, images, eager):
    root = detector.keras_model.get_layer("mrcnn_mask").output
    outputs = [(name, detector.ancestor(root, name)) for name in RPN_TENSORS if name not in ("rpn_bbox", "rpn_class")]
    outputs += [(name, detector.keras_model.get_layer(name).output) for name in ("rpn_bbox", "rpn_class")]
    arrays = detector.run_graph(images[:1], outputs)
    assert {name: array.shape for name, array in arrays.items()} == RPN_TENSORS
    anchors, refined = arrays["ROI/pre_nms_anchors:0"][0], arrays["ROI/refined_anchors_clipped:0"][0]
    order = np.argsort(-arrays["rpn_class"][0, :, 1], kind="stable")[:100]
    np.testing.assert_allclose(anchors, detector.get_anchors((64, 64, 3))[order], atol=1e-6)
    assert refined.min() >= 0
    assert refined.max() <= 1
    kept = arrays["ROI/rpn_non_max_suppression:0"][0]
    np.testing.assert_allclose(arrays["ROI"][0][kept >= 0], refined[kept[kept >= 0]])


def test_run_graph_takes_molded_images(detector, images, eager):
    molded, metas, _ = detector.mold_inputs(images[:1])
    outputs = [("rois", detector.keras_model.get_layer("ROI").output)]
    given = detector.run_graph(molded, outputs, image_metas=metas)
    np.testing.assert_allclose(given["rois"], detector.run_graph(images[:1], outputs)["rois"], atol=1e-6)


def test_ancestor_that_is_not_there(detector):
    assert detector.ancestor(detector.keras_model.outputs[0], "no_such_layer") is None


# ---- Weights ---------------------------------------------------------------------------------------------------


@pytest.mark.backend
def test_weights_survive_a_file(detector, tiny_config, tmp_path):
    detector.save_weights(tmp_path / "tiny.h5")
    other = MaskRCNN("inference", tiny_config(), tmp_path)
    report = other.load_weights(tmp_path / "tiny.h5")
    assert not report.missing + report.unused
    for ours, theirs in zip(other.keras_model.get_weights(), detector.keras_model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert other.epoch == 0, "a file that is no checkpoint begins a new run"


def test_checkpoints_have_the_lineages_names(tmp_path):
    folder = tmp_path / "nucleus20240101T0000"
    assert RUN_FILES.run_of(folder / "mask_rcnn_nucleus_0012.h5") == Run(folder, 12)
    for other in ("mask_rcnn_coco.h5", "nucleus20240101T0000/mask_rcnn_nucleus_best.h5", "x/mask_rcnn_a_0001.h5"):
        assert RUN_FILES.run_of(tmp_path / other) is None


def test_coco_weights_load_but_for_the_excluded_layers(tiny_config, tmp_path):
    coco = MaskRCNN("inference", tiny_config(NUM_CLASSES=81), tmp_path)
    coco.save_weights(tmp_path / "coco.h5")
    model = MaskRCNN("training", tiny_config(NUM_CLASSES=2), tmp_path)
    heads = ["mrcnn_class_logits", "mrcnn_bbox_fc", "mrcnn_mask"]
    before = {name: model.keras_model.get_layer(name).get_weights() for name in heads}
    report = model.load_weights(tmp_path / "coco.h5", by_name=True, exclude=[*heads, "mrcnn_bbox"])
    assert not report.missing + report.unused
    for layer in model.keras_model.layers:
        expected = before.get(layer.name) or (layer.weights and coco.keras_model.get_layer(layer.name).get_weights())
        for ours, theirs in zip(layer.get_weights() if expected else [], expected or [], strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_copies_refuse_another_architecture(detector, tmp_path):
    class Other:
        keras_model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])

    with pytest.raises(ValueError, match="differ in architecture"):
        detector.copy_weights_from(Other())


# ---- Which layers learn ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def resnet(tiny_config, tmp_path_factory):
    return MaskRCNN("inference", tiny_config(BACKBONE="resnet50"), tmp_path_factory.mktemp("logs"))


@pytest.mark.parametrize(
    ("layers", "frozen_stages"),
    [("all", ()), ("3+", (1, 2)), ("4+", (1, 2, 3)), ("5+", (1, 2, 3, 4)), ("heads", (1, 2, 3, 4, 5))],
)
def test_set_trainable(resnet, layers, frozen_stages, capsys):
    def stage_of(name):
        if name in ("conv1", "bn_conv1"):
            return 1
        block = name.partition("_branch")[0]
        return int(block.removeprefix("res").removeprefix("bn")[0]) if "_branch" in name else None

    resnet.set_trainable(layers)
    found = set()
    for layer in resnet.keras_model.layers:
        if layer.weights:
            stage = stage_of(layer.name)
            found.add(stage)
            learns = stage not in frozen_stages
            trainable = {weight.path for weight in layer.trainable_weights}
            expected = [w.path for w in layer.weights if learns and "moving" not in w.path]
            assert trainable == set(expected), layer.name
    assert found == {1, 2, 3, 4, 5, None}
    assert "rpn_conv_shared" in capsys.readouterr().out


def test_set_trainable_by_expression(resnet, capsys):
    resnet.set_trainable(r"mrcnn_mask.*|rpn_class_raw", verbose=0)
    learning = {weight.path.split("/")[-2] for weight in resnet.keras_model.trainable_weights}
    assert learning == {
        "rpn_class_raw",
        "mrcnn_mask",
        "mrcnn_mask_deconv",
        *(f"mrcnn_mask_{kind}{index}" for kind in ("conv", "bn") for index in range(1, 5)),
    }
    assert not capsys.readouterr().out
