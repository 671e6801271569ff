"""The layers between the convolutions against NumPy, and that they can be saved."""

import keras
import numpy as np
import pytest
from keras import ops

from mrcnn import layers
from mrcnn.image_meta import compose_image_meta
from mrcnn.roi_heads import detections, targets
from mrcnn.roi_heads import layers as roi_layers
from mrcnn.rpn import proposals

pytestmark = pytest.mark.backend
DEVIATION = (0.1, 0.1, 0.2, 0.2)


def tensor(array):
    return ops.convert_to_tensor(np.asarray(array, np.float32) if np.asarray(array).dtype.kind == "f" else array)


def run(layer, *arrays, **options):
    """Calls a layer on arrays; also checks that what it promises about its outputs is true."""
    inputs = [tensor(array) for array in arrays]
    inputs = inputs if len(inputs) > 1 else inputs[0]
    promised = layer.compute_output_spec(ops.convert_to_tensor(inputs) if len(arrays) == 1 else inputs)
    if keras.backend.backend() == "jax" and not layer.weights:
        outputs = run_compiled(layer, inputs)
    else:
        outputs = layer(inputs, **options)
    for spec, output in zip(keras.tree.flatten(promised), keras.tree.flatten(outputs), strict=True):
        assert tuple(spec.shape) == tuple(output.shape)
        assert spec.dtype == keras.backend.standardize_dtype(output.dtype)
    return keras.tree.map_structure(ops.convert_to_numpy, outputs)


def run_compiled(layer, inputs):
    """Calls a layer in one piece: JAX would compile its operations one by one, which takes far longer."""
    import jax

    layer.build(keras.tree.map_structure(lambda array: array.shape, inputs))
    return jax.jit(lambda states, arrays: layer.stateless_call([], states, arrays)[0])(
        [variable.value for variable in layer.non_trainable_variables], inputs
    )


def iou(box, other):
    height = max(0.0, min(box[2], other[2]) - max(box[0], other[0]))
    width = max(0.0, min(box[3], other[3]) - max(box[1], other[1]))
    union = (box[2] - box[0]) * (box[3] - box[1]) + (other[2] - other[0]) * (other[3] - other[1]) - height * width
    return height * width / union


def loop_decode(box, delta):
    height, width = box[2] - box[0], box[3] - box[1]
    y, x = box[0] + height / 2 + delta[0] * height, box[1] + width / 2 + delta[1] * width
    height, width = height * np.exp(delta[2]), width * np.exp(delta[3])
    return np.array([y - height / 2, x - width / 2, y + height / 2, x + width / 2])


# ---- Batch normalisation and convolutions ----------------------------------------------------------------------


def filled_norm(layer, inputs):
    """Builds a batch norm with statistics and scale that are not the identity."""
    layer.build(inputs.shape)
    rng = np.random.default_rng(1)
    for weight in layer.weights:
        weight.assign(rng.uniform(0.5, 2.0, weight.shape))
    return layer


@pytest.mark.parametrize("train_bn", [False, None, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("trainable", [False, True])
def test_batch_norm_modes(train_bn, training, trainable):
    inputs = np.random.default_rng(0).normal(3, 2, (4, 3, 3, 2)).astype(np.float32)
    layer = filled_norm(layers.BatchNorm(train_bn), inputs)
    layer.trainable = trainable
    reference = filled_norm(keras.layers.BatchNormalization(), inputs)
    reference.trainable = trainable
    uses_batch = trainable and (training if train_bn is None else train_bn)
    expected = ops.convert_to_numpy(reference(tensor(inputs), training=uses_batch))
    np.testing.assert_allclose(run(layer, inputs, training=training), expected, atol=1e-5)
    for ours, theirs in zip(layer.weights, reference.weights, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(ours), ops.convert_to_numpy(theirs), rtol=1e-5)


def test_roi_convolution_is_a_valid_convolution():
    inputs = np.random.default_rng(0).normal(size=(5, 3, 3, 4)).astype(np.float32)
    ours, reference = roi_layers.RoIConv2D(6, 3), keras.layers.Conv2D(6, 3, padding="valid")
    ours.build(inputs.shape)
    reference.build(inputs.shape)
    ours.bias.assign(np.arange(6.0))
    reference.set_weights(ours.get_weights())
    np.testing.assert_allclose(run(ours, inputs), ops.convert_to_numpy(reference(tensor(inputs))), atol=1e-4)


def test_pointwise_convolution_takes_any_leading_dimensions():
    inputs = np.random.default_rng(0).normal(size=(2, 5, 3, 3, 4)).astype(np.float32)
    ours, reference = (
        roi_layers.PointwiseConv2D(6, activation="sigmoid"),
        keras.layers.Conv2D(6, 1, activation="sigmoid"),
    )
    ours.build(inputs.shape)
    reference.build(inputs[0].shape)
    ours.bias.assign(np.arange(6.0))
    reference.set_weights(ours.get_weights())
    expected = [ops.convert_to_numpy(reference(tensor(image))) for image in inputs]
    np.testing.assert_allclose(run(ours, inputs), expected, atol=1e-5)


# ---- Proposals -------------------------------------------------------------------------------------------------


def test_anchors_repeat_for_every_image():
    anchors = np.random.default_rng(0).uniform(size=(7, 4)).astype(np.float32)
    np.testing.assert_array_equal(run(proposals.Anchors(anchors), np.zeros((2, 8, 8, 3))), np.stack([anchors] * 2))


@pytest.mark.parametrize("limit", [4, 50])
def test_top_anchors(limit):
    rng = np.random.default_rng(0)
    probabilities, deltas, anchors = (rng.uniform(size=(2, 9, size)).astype(np.float32) for size in (2, 4, 4))
    top_anchors, scores, top_deltas = run(proposals.TopAnchors(limit, DEVIATION), probabilities, deltas, anchors)
    for image in range(2):
        order = np.argsort(-probabilities[image, :, 1])[:limit]
        np.testing.assert_array_equal(top_anchors[image], anchors[image, order])
        np.testing.assert_array_equal(scores[image], probabilities[image, order, 1])
        np.testing.assert_allclose(top_deltas[image], deltas[image, order] * DEVIATION, rtol=1e-6)


def test_boxes_are_refined_clipped_suppressed_and_selected():
    boxes = np.array([[[0.1, 0.1, 0.4, 0.4], [0.1, 0.1, 0.4, 0.42], [0.5, 0.5, 0.9, 1.3], [0.6, 0, 0.9, 0.2]]])
    deltas = np.random.default_rng(0).normal(0, 0.01, (1, 4, 4))
    refined = run(proposals.RefinedBoxes(), boxes, deltas)
    expected = [loop_decode(*pair) for pair in zip(boxes[0], deltas[0], strict=True)]
    np.testing.assert_allclose(refined[0], expected, atol=1e-6)
    clipped = run(proposals.ClippedBoxes(), boxes)
    np.testing.assert_allclose(clipped[0, 2], [0.5, 0.5, 0.9, 1.0])
    kept = run(proposals.SuppressedBoxes(5, 0.5), clipped, np.array([[0.3, 0.4, 0.9, 0.1]]))
    assert kept.tolist() == [[2, 1, 3, -1, -1]]
    selected = run(proposals.SelectedBoxes(), clipped, kept)
    np.testing.assert_array_equal(selected[0], [*clipped[0, [2, 1, 3]], [0] * 4, [0] * 4])


def test_normalized_boxes_keep_padding():
    boxes = run(
        layers.NormalizedBoxes(), np.array([[[0, 0, 33, 65], [16, 32, 17, 33], [0, 0, 0, 0]]]), np.zeros((1, 33, 65, 3))
    )
    np.testing.assert_allclose(boxes, [[[0, 0, 1, 1], [0.5, 0.5, 0.5, 0.5], [0, 0, 0, 0]]], atol=1e-6)


def test_rois_fold_and_unfold():
    values, rois = np.arange(2 * 3 * 4.0).reshape(2, 3, 4), np.zeros((2, 3, 4))
    folded = run(roi_layers.FoldRois(), values)
    np.testing.assert_array_equal(folded, values.reshape(6, 4))
    np.testing.assert_array_equal(run(roi_layers.UnfoldRois(), folded, rois), values)
    np.testing.assert_array_equal(run(roi_layers.UnfoldRois((2, 2)), folded, rois), values.reshape(2, 3, 2, 2))
    np.testing.assert_array_equal(run(targets.FirstRois(2), values), values[:, :2])


# ---- Targets ---------------------------------------------------------------------------------------------------

# One image of 33 x 33 pixels, so that normalised multiples of 1/32 are pixel centres.
GT_BOXES = np.array([[0, 0, 16, 16], [16, 16, 32, 32], [0, 20, 8, 28], [0, 0, 0, 0]]) / 32
GT_IDS = np.array([1, 2, -1, 0], np.int32)  # the third is a crowd, the fourth padding
PROPOSALS = (
    np.array(
        [
            [0, 0, 16, 16],  # the first object itself
            [0, 0, 16, 12],  # IoU 0.75 with it
            [0, 0, 16, 8],  # IoU 0.5: still positive
            [0, 0, 16, 7],  # IoU below: negative
            [16, 18, 32, 32],  # the second object, nearly
            [24, 0, 32, 8],  # nothing: negative
            [0, 20, 8, 27],  # on the crowd: neither
            [0, 0, 0, 0],  # padding: neither
        ]
    )
    / 32
)


def gt_masks():
    """`[33, 33, 4]`: a disc-like, an L-shaped and a full mask inside their boxes."""
    masks = np.zeros((33, 33, 4), bool)
    y, x = np.mgrid[:33, :33]
    masks[..., 0] = (y - 8) ** 2 + (x - 8) ** 2 <= 60
    masks[16:33, 16:20, 1] = masks[28:33, 16:33, 1] = True
    masks[0:9, 20:29, 2] = True
    return masks


def choose(proposals=PROPOSALS, ids=GT_IDS, boxes=GT_BOXES, masks=None, count=12, ratio=0.5, mini=False, seed=0):
    masks = gt_masks() if masks is None else masks
    layer = targets.DetectionTargets(count, ratio, DEVIATION, (9, 9), mini, seed=seed)
    outputs = run(layer, *(np.asarray(part)[None] for part in (proposals, ids, boxes, masks)))
    return [output[0] for output in outputs]


def rows(boxes):
    return sorted(tuple(np.round(box * 32).astype(int)) for box in boxes)


def test_positives_and_negatives():
    rois, class_ids, _, _ = choose()
    assert rows(rois[class_ids == 1]) == [(0, 0, 16, 8), (0, 0, 16, 12), (0, 0, 16, 16)]
    assert rows(rois[class_ids == 2]) == [(16, 18, 32, 32)]
    assert rows(rois[class_ids == 0]) == [(0, 0, 16, 7), (24, 0, 32, 8)], "neither the crowd's nor padding"
    assert sorted(class_ids) == [-1] * 6 + [0] * 2 + [1] * 3 + [2]
    assert (class_ids[6:] <= 0).all(), "positives stand in the first slots"
    assert not rois[class_ids == -1].any()


def test_deltas_lead_from_the_roi_to_its_object():
    rois, class_ids, deltas, _ = choose()
    for roi, class_id, delta in zip(rois, class_ids, deltas, strict=True):
        if class_id > 0:
            np.testing.assert_allclose(loop_decode(roi, delta * DEVIATION), GT_BOXES[class_id - 1], atol=1e-5)
        else:
            assert not delta.any()


@pytest.mark.parametrize("mini", [False, True])
def test_target_masks_are_the_object_inside_the_roi(mini):
    masks = gt_masks()
    if mini:  # the mask inside its box, at the resolution of 17 x 17 of which every second point is a pixel's centre
        small = np.zeros((17, 17, 4), bool)
        for index, (y1, x1, y2, x2) in enumerate((GT_BOXES * 32).astype(int)[:2]):
            small[..., index] = masks[y1 : y2 + 1, x1 : x2 + 1, index]
        rois, class_ids, _, targets = choose(masks=small, mini=True)
    else:
        rois, class_ids, _, targets = choose()
    assert targets.shape == (6, 9, 9)
    checked = 0
    for roi, class_id, target in zip(rois, class_ids, targets, strict=False):
        if class_id <= 0:
            assert not target.any()
            continue
        y1, x1, y2, x2 = roi * 32
        mask = masks[..., class_id - 1].astype(float)
        for i in range(9):
            for j in range(9):
                y, x = y1 + (y2 - y1) * i / 8, x1 + (x2 - x1) * j / 8
                row, col = min(int(y + 1e-5), 31), min(int(x + 1e-5), 31)
                weights = np.outer([1 - (y - row), y - row], [1 - (x - col), x - col])
                value = (mask[row : row + 2, col : col + 2] * weights).sum()
                if abs(value - 0.5) > 1e-3:
                    assert target[i, j] == (value > 0.5)
                    checked += 1
    assert checked > 200


def test_too_many_positives_keep_the_ratio():
    rng = np.random.default_rng(0)
    positives = GT_BOXES[0] + rng.uniform(-0.02, 0.02, (30, 4)).clip(0)
    negatives = np.tile([24, 0, 32, 8], (30, 1)) / 32
    _, class_ids, _, masks = choose(np.concatenate([positives, negatives]), count=12, ratio=0.25)
    assert (class_ids == 1).sum() == 3 == len(masks)
    assert (class_ids == 0).sum() == 9


def test_few_positives_limit_the_negatives():
    # One positive and a ratio of 1/4 leave room for three negatives of the thirty.
    proposals = np.concatenate([PROPOSALS[:1], np.tile(PROPOSALS[5], (30, 1))])
    _, class_ids, _, _ = choose(proposals, count=12, ratio=0.25)
    assert sorted(class_ids) == [-1] * 8 + [0] * 3 + [1]


def test_an_image_without_objects_teaches_the_background():
    nothing = np.zeros(4, np.int32)
    _, class_ids, deltas, masks = choose(np.tile(PROPOSALS[5], (30, 1)), nothing, 0 * GT_BOXES, count=12, ratio=0.25)
    assert sorted(class_ids) == [-1] * 3 + [0] * 9
    assert not deltas.any()
    assert not masks.any()


def test_fewer_proposals_than_slots_and_none_at_all():
    rois, class_ids, _, _ = choose(PROPOSALS[:2], count=10)
    assert sorted(class_ids) == [-1] * 8 + [1] * 2
    rois, class_ids, deltas, masks = choose(0 * PROPOSALS)
    assert (class_ids == -1).all()
    for array in (rois, deltas, masks):
        assert np.isfinite(array).all()
        assert not array.any()


def test_the_choice_depends_on_the_seed_alone():
    crowd = GT_BOXES[0] + np.random.default_rng(0).uniform(0, 0.05, (40, 4))
    first, again, other = (choose(crowd, count=8, seed=seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


# ---- Detections ------------------------------------------------------------------------------------------------

META = compose_image_meta(0, (64, 64, 3), (65, 65, 3), (0, 0, 65, 65), 1.0, np.ones(3))


def detect(rois, probabilities, deltas=None, meta=META, count=8, confidence=0.3):
    deltas = np.zeros((len(rois), 3, 4)) if deltas is None else deltas
    layer = detections.Detections(count, confidence, 0.3, DEVIATION)
    (found,) = run(layer, *(np.asarray(part)[None] for part in (rois, probabilities, deltas, meta)))
    used = found[:, 4] > 0
    assert not found[~used].any()
    assert (np.diff(used.astype(int)) <= 0).all()
    return found[used]


def test_detections_of_each_class_suppress_each_other_only():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 0.6, (60, 2))
    rois = np.concatenate([corners, corners + rng.uniform(0.1, 0.3, (60, 2))], axis=1)
    probabilities = rng.dirichlet((1, 1, 1), 60)
    deltas = rng.normal(0, 0.5, (60, 3, 4))
    ids, scores = probabilities.argmax(axis=1), probabilities.max(axis=1)
    boxes = np.array([loop_decode(rois[i], deltas[i, ids[i]] * DEVIATION) for i in range(60)]).clip(0, 1)
    expected = []
    for index in np.argsort(-scores):
        rivals = [other for other in expected if ids[other] == ids[index]]
        if ids[index] and scores[index] >= 0.5 and all(iou(boxes[index], boxes[r]) <= 0.3 for r in rivals):
            expected.append(index)
    found = detect(rois, probabilities, deltas, count=40, confidence=0.5)
    assert set(ids[expected]) == {1, 2}
    np.testing.assert_array_equal(found[:, 4], ids[expected])
    np.testing.assert_allclose(found[:, 5], scores[expected], rtol=1e-6)
    np.testing.assert_allclose(found[:, :4], boxes[expected], atol=1e-5)
    np.testing.assert_array_equal(detect(rois, probabilities, deltas, count=5, confidence=0.5), found[:5])


ROIS = np.array([[0.1, 0.1, 0.3, 0.3], [0.6, 0.6, 0.8, 0.8], [0, 0, 0, 0]])


def test_confidence_background_and_padding_drop_out():
    probabilities = np.array([[0.2, 0.5, 0.3], [0.9, 0.05, 0.05], [0, 1, 0]])
    assert detect(ROIS, probabilities, confidence=0.5)[:, 4].tolist() == [1]
    assert len(detect(ROIS, probabilities, confidence=0.51)) == 0
    for no_limit in (0, None):
        assert detect(ROIS, [[0.3, 0.32, 0.38]] * 3, confidence=no_limit)[:, 4].tolist() == [2, 2]


def test_detections_are_clipped_to_the_image_inside_its_padding():
    # 65 x 65 pixels of which rows 16..48 hold the image.
    meta = compose_image_meta(0, (33, 65, 3), (65, 65, 3), (16, 0, 49, 65), 1.0, np.ones(3))
    found = detect([[0, 0.2, 1, 0.5]], [[0.0, 1.0, 0.0]], meta=meta)
    np.testing.assert_allclose(found[0, :4], [0.25, 0.2, 0.75, 0.5], atol=1e-6)
    assert detections.DetectionBoxes()(tensor(found[None])).shape == (1, 1, 4)


# ---- Saving ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layer",
    [
        layers.BatchNorm(None, name="bn", epsilon=0.01),
        roi_layers.RoIConv2D(4, 3, name="conv"),
        roi_layers.PointwiseConv2D(4, name="pointwise", activation="sigmoid"),
        proposals.Anchors([[0.0, 0.0, 1.0, 1.0]], name="anchors"),
        proposals.TopAnchors(10, DEVIATION, name="top"),
        proposals.RefinedBoxes(name="refined"),
        proposals.ClippedBoxes(name="clipped"),
        proposals.SuppressedBoxes(10, 0.7, name="suppressed"),
        proposals.SelectedBoxes(name="selected"),
        roi_layers.PyramidROIAlign(7, name="align"),
        roi_layers.FoldRois(name="fold"),
        roi_layers.UnfoldRois((3, 4), name="unfold"),
        targets.DetectionTargets(10, 0.3, DEVIATION, (28, 28), True, seed=3, name="targets"),
        detections.Detections(10, 0.5, 0.3, DEVIATION, name="detections"),
        layers.NormalizedBoxes(name="normalized"),
        targets.FirstRois(3, name="first"),
        detections.DetectionBoxes(name="boxes"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_settings_survive_saving(layer):
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(restored) is type(layer)
    assert restored.get_config() == layer.get_config()
