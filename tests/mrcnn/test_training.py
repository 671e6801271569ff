"""Training a tiny network: what is learnt, what is frozen, what is written, and going on after a stop."""

import csv
from pathlib import Path

import keras
import numpy as np
import pytest

from mrcnn.data import DataGenerator
from mrcnn.model import MaskRCNN
from mrcnn.training_model import LOSS_NAMES
from trainkit.fitting import TrainingDivergedError
from trainkit.schedules import warmup_cosine


def new_model(config, folder, seed=1):
    keras.utils.set_random_seed(seed)
    return MaskRCNN("training", config, folder)


def weights_of(model):
    """Weights by layer, for comparing."""
    keras_model = model.keras_model
    if hasattr(keras_model, "jax_state_sync"):
        keras_model.jax_state_sync()
    found = {}
    for layer in keras_model.layers:
        for part in layer.layers if isinstance(layer, keras.Model) else [layer]:
            if part.weights:
                found[part.name] = part.get_weights()
    return found


def changed_layers(before, after):
    pairs = ((name, zip(before[name], after[name], strict=True)) for name in before)
    return {name for name, weights in pairs if any((ours != theirs).any() for ours, theirs in weights)}


def read_log(model):
    with open(Path(model.log_dir) / "training.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.backend
def test_an_epoch_trains_the_chosen_layers_and_leaves_its_files(tiny_config, shapes, tmp_path, eager):
    model = new_model(tiny_config(), tmp_path)
    before = weights_of(model)
    history = model.train(shapes(), shapes(), 0.01, epochs=1, layers="heads")

    after = weights_of(model)
    assert changed_layers(before, after) >= {"fpn_p2", "rpn_conv_shared", "rpn_class_raw", "mrcnn_class_conv1"}
    assert changed_layers(before, after) >= {"mrcnn_class_bn1", "mrcnn_class_logits"}
    assert not any(name.startswith(("conv1", "res", "bn")) for name in changed_layers(before, after))
    for name, weights in before.items():
        if "bn" in name:
            np.testing.assert_array_equal(weights[2:], after[name][2:], "TRAIN_BN is off: statistics stay")

    (row,) = read_log(model)
    assert row["epoch"] == "1"
    for name in ("loss", *LOSS_NAMES):
        assert np.isfinite(float(row[name]))
        assert np.isfinite(float(row[f"val_{name}"]))
        assert history.history[name][0] == pytest.approx(float(row[name]), rel=1e-4)
    assert float(row["loss"]) >= sum(float(row[name]) for name in LOSS_NAMES) - 1e-4, "and some weight decay"
    assert Path(model.log_dir).parent == tmp_path
    assert Path(model.log_dir).name.startswith("tiny2")
    assert [path.name for path in Path(model.log_dir).glob("*.h5")] == ["mask_rcnn_tiny_0001.h5"]
    assert list(Path(model.log_dir).glob("**/events.out.tfevents.*"))

    assert model.epoch == 1
    assert model.train(shapes(), shapes(), 0.01, epochs=1, layers="heads") is None, "nothing is left to do"
    detector = MaskRCNN("inference", tiny_config(), tmp_path)
    assert detector.find_last() == str(Path(model.log_dir) / "mask_rcnn_tiny_0001.h5")
    detector.load_weights(detector.find_last(), by_name=True)
    for name, weights in weights_of(detector).items():
        for ours, theirs in zip(weights, after[name], strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_the_compiled_graph_trains_like_the_layers_one_by_one(tiny_config, shapes, tmp_path, only_tensorflow, request):
    config = tiny_config(STEPS_PER_EPOCH=3, OPTIMIZER="Adam", TRAIN_ROIS_PER_IMAGE=30)
    compiled = new_model(config, tmp_path / "compiled")
    start = weights_of(compiled)
    compiled.train(shapes(), shapes(), 0.001, epochs=1, layers="all")
    request.getfixturevalue("eager")
    stepwise = new_model(config, tmp_path / "stepwise")
    stepwise.train(shapes(), shapes(), 0.001, epochs=1, layers="all")

    (ours,), (theirs,) = read_log(compiled), read_log(stepwise)
    for name in ("loss", "val_loss", *LOSS_NAMES):
        assert float(ours[name]) == pytest.approx(float(theirs[name]), rel=1e-3), name
    expected, found = weights_of(stepwise), weights_of(compiled)
    assert changed_layers(start, found) >= {"conv1", "bn_conv1", "rpn_conv_shared", "mrcnn_class_logits"}
    for name, weights in expected.items():
        for one, other in zip(found[name], weights, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4, err_msg=name)


def test_frozen_stages_do_not_change(tiny_config, shapes, tmp_path, eager):
    model = new_model(tiny_config(VALIDATION_STEPS=0), tmp_path)
    before = weights_of(model)
    model.train(shapes(), shapes(), 0.01, epochs=1, layers="4+")
    changed = {name for name in changed_layers(before, weights_of(model)) if "_branch" in name or name == "conv1"}
    assert changed == {f"{kind}{stage}a_branch2a" for stage in (4, 5) for kind in ("res", "bn")}


def test_the_loss_of_one_image_falls(tiny_config, shapes, tmp_path, eager):
    settings = {"USE_RPN_ROIS": False, "POST_NMS_ROIS_TRAINING": 300, "TRAIN_ROIS_PER_IMAGE": 30}
    config = tiny_config(STEPS_PER_EPOCH=3, VALIDATION_STEPS=0, TRAIN_BN=None, OPTIMIZER="Adam", **settings)
    model = new_model(config, tmp_path)
    one = shapes(objects=(6,))
    model.train(one, one, 0.002, epochs=3, layers="all")
    first, _, last = read_log(model)
    for name in ("loss", "rpn_class_loss", "rpn_bbox_loss", "mrcnn_class_loss", "mrcnn_mask_loss"):
        assert 0 < float(last[name]) < 0.95 * float(first[name]), name


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tiny_config, shapes, tmp_path, eager):
    config = tiny_config(STEPS_PER_EPOCH=2, VALIDATION_STEPS=0)
    stage = {"learning_rate": 0.01, "layers": "all"}
    whole = new_model(config, tmp_path / "whole")
    start = weights_of(whole)
    whole.train(shapes(), shapes(), epochs=2, **stage)

    stopped = new_model(config, tmp_path / "stopped")
    stopped.train(shapes(), shapes(), epochs=1, **stage)
    resumed = new_model(config, tmp_path / "stopped", seed=99)
    resumed.load_weights(resumed.find_last(), by_name=True)
    assert (resumed.epoch, resumed.log_dir) == (1, stopped.log_dir)
    resumed.train(shapes(), shapes(), epochs=2, **stage)

    assert [row["epoch"] for row in read_log(resumed)] == ["1", "2"]
    assert sorted(path.name for path in Path(resumed.log_dir).glob("*.h5")) == [
        "mask_rcnn_tiny_0001.h5",
        "mask_rcnn_tiny_0002.h5",
    ]
    expected, found = weights_of(whole), weights_of(resumed)
    assert len(changed_layers(start, expected)) > 20
    for name, weights in expected.items():
        for ours, theirs in zip(found[name], weights, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5, err_msg=name)
    assert float(read_log(resumed)[1]["loss"]) == pytest.approx(float(read_log(whole)[1]["loss"]), rel=1e-4)


def test_a_cosine_with_averages_goes_on_after_a_stop_as_if_there_had_been_none(tiny_config, shapes, tmp_path, eager):
    config = tiny_config(
        SCHEDULE="cosine",
        WARMUP_STEPS=1,
        AVERAGE_MOMENTUM=0.5,
        BALANCE_POWER=0.5,
        STAGES=(("heads", 2, 0.01),),
        STEPS_PER_EPOCH=2,
        VALIDATION_STEPS=0,
    )
    whole = new_model(config, tmp_path / "whole")
    history = whole.train_stages(shapes(), shapes())
    rates = [0.01 * warmup_cosine(step, total=4, warmup=1) for step in (1, 3)]
    np.testing.assert_allclose(history["learning_rate"], rates, rtol=1e-5)

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    stopped = new_model(config, tmp_path / "stopped")
    with pytest.raises(KeyboardInterrupt):
        stopped.train_stages(shapes(), shapes(), custom_callbacks=[Stop()])
    resumed = new_model(config, tmp_path / "stopped", seed=99)
    resumed.load_weights(resumed.find_last(), by_name=True)
    resumed.train_stages(shapes(), shapes())
    expected, found = weights_of(whole), weights_of(resumed)
    for name, weights in expected.items():
        for ours, theirs in zip(found[name], weights, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5, err_msg=name)
    plain = new_model(config, tmp_path / "plain")
    plain.config.AVERAGE_MOMENTUM = 0.0
    plain.train_stages(shapes(), shapes())
    assert changed_layers(expected, weights_of(plain)), "an average of weights is handed over, not the last ones"


def test_images_of_small_groups_are_drawn_more_often_than_their_number(tiny_config, shapes):
    dataset = shapes(objects=(1,) * 16)
    for image_id, info in enumerate(dataset.image_info):
        info["modality"] = "h&e" if image_id == 0 else "fluorescence"
    for power, share in ((1.0, 1 / 16), (0.5, 1 / (1 + 15**0.5)), (0.0, 1 / 2)):
        batches = DataGenerator(dataset, tiny_config(BALANCE_POWER=power), steps=2048)
        images = [batches.item(0, index) for index in range(2048)]
        assert images.count(0) / 2048 == pytest.approx(share, abs=0.01)


def test_another_stage_begins_with_a_fresh_optimizer(tiny_config, shapes, tmp_path, eager):
    config = tiny_config(VALIDATION_STEPS=0)
    new_model(config, tmp_path).train(shapes(), shapes(), 0.01, epochs=1, layers="heads")
    resumed = new_model(config, tmp_path, seed=2)
    resumed.load_weights(resumed.find_last(), by_name=True)
    resumed.train(shapes(), shapes(), 0.001, epochs=2, layers="all")
    assert int(resumed.keras_model.optimizer.iterations) == 1
    assert float(resumed.keras_model.optimizer.learning_rate) == pytest.approx(0.001)


def test_stages_follow_each_other_and_those_behind_a_checkpoint_are_skipped(tiny_config, shapes, tmp_path, eager):
    config = tiny_config(STAGES=(("heads", 1), ("all", 2, 0.002)), LEARNING_RATE=0.01, VALIDATION_STEPS=0)
    model = new_model(config, tmp_path)
    start = weights_of(model)
    first = model.train_stages(shapes(), shapes(), epochs=1)
    heads = weights_of(model)
    assert not any(name.startswith("res") for name in changed_layers(start, heads))

    resumed = new_model(config, tmp_path, seed=2)
    resumed.load_weights(resumed.find_last(), by_name=True)
    rest = resumed.train_stages(shapes(), shapes())
    assert any(name.startswith("res") for name in changed_layers(heads, weights_of(resumed)))
    assert float(resumed.keras_model.optimizer.learning_rate) == pytest.approx(0.002)
    assert [row["epoch"] for row in read_log(resumed)] == ["1", "2", "3"]
    logged = [float(row["loss"]) for row in read_log(resumed)]
    np.testing.assert_allclose([*first["loss"], *rest["loss"]], logged, rtol=1e-4)
    assert resumed.train_stages(shapes(), shapes()) == {}, "nothing is left to do"


@pytest.mark.parametrize(
    "settings",
    [
        {"USE_RPN_ROIS": False, "POST_NMS_ROIS_TRAINING": 300, "TRAIN_BN": None},
        {"USE_MINI_MASK": False, "TRAIN_BN": True, "IMAGES_PER_GPU": 2},
        {"PRECISION": "mixed_bfloat16", "MAX_GT_INSTANCES": 2},
        {"IMAGE_RESIZE_MODE": "crop", "IMAGE_CHANNEL_COUNT": 1, "MEAN_PIXEL": np.array([60.0])},
        {"IMAGE_CHANNEL_COUNT": 4, "MEAN_PIXEL": np.full(4, 60.0), "GRADIENT_CLIP_NORM": 0.0},
    ],
    ids=", ".join,
)
def test_settings_that_change_the_graph_train(tiny_config, shapes, tmp_path, eager, settings):
    model = new_model(tiny_config(VALIDATION_STEPS=0, **settings), tmp_path)
    before = weights_of(model)
    dataset = shapes(channels=model.config.IMAGE_CHANNEL_COUNT)
    history = model.train(dataset, dataset, 0.001, epochs=1, layers="all")
    assert all(np.isfinite(values).all() for values in history.history.values())
    changed = changed_layers(before, weights_of(model))
    assert changed >= {"conv1", "mrcnn_class_logits"}
    if not model.config.USE_RPN_ROIS:  # Some of many random RoIs around the objects are positive, unlike a new RPN's.
        assert changed >= {"mrcnn_bbox_fc", "mrcnn_mask"}
    statistics = [(before[name][2:], weights[2:]) for name, weights in weights_of(model).items() if "bn" in name]
    moved = [any((b != a).any() for b, a in zip(*pair, strict=True)) for pair in statistics]
    assert all(moved) if settings.get("TRAIN_BN", False) is not False else not any(moved)


def test_an_image_without_objects_trains_the_background(tiny_config, shapes, tmp_path, eager):
    model = new_model(tiny_config(VALIDATION_STEPS=0), tmp_path)
    empty = shapes(objects=(0,))
    history = model.train(empty, empty, 0.001, epochs=1, layers="all")
    for name in ("rpn_bbox_loss", "mrcnn_bbox_loss", "mrcnn_mask_loss"):
        assert history.history[name] == [0.0]
    assert history.history["rpn_class_loss"][0] > 0
    assert history.history["mrcnn_class_loss"][0] > 0


def test_loss_weights_and_weight_decay(tiny_config, shapes, tmp_path, eager):
    weights = {name: 0.0 for name in LOSS_NAMES} | {"mrcnn_mask_loss": 2.0}
    model = new_model(tiny_config(LOSS_WEIGHTS=weights, WEIGHT_DECAY=0), tmp_path)
    history = model.train(shapes(), shapes(), 0.001, epochs=1, layers="all").history
    assert history["val_loss"][0] == pytest.approx(2 * history["val_mrcnn_mask_loss"][0], rel=1e-5)
    decayed = new_model(tiny_config(WEIGHT_DECAY=0.5), tmp_path).keras_model
    squares = [
        np.square(keras.ops.convert_to_numpy(weight))
        for layer in decayed.layers
        for weight in layer.trainable_weights
        if not isinstance(layer, keras.layers.BatchNormalization)
    ]
    for name, reduce in (("mean", np.mean), ("sum", np.sum)):
        decayed.settings.WEIGHT_DECAY_REDUCTION = name
        expected = 0.5 * sum(float(reduce(square)) for square in squares)
        assert float(decayed.weight_decay()) == pytest.approx(expected, rel=1e-4)


def test_adamw_takes_the_decay_off_the_kernels_and_the_loss_has_none(tiny_config, tmp_path):
    model = new_model(tiny_config(OPTIMIZER="AdamW", WEIGHT_DECAY=0.5), tmp_path)
    model.compile(0.1, 0.9)
    assert float(model.keras_model.weight_decay()) == 0
    optimizer, variables = model.keras_model.optimizer, model.keras_model.trainable_variables
    before = [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]
    optimizer.apply([keras.ops.zeros_like(variable) for variable in variables], variables)
    for variable, start in zip(variables, before, strict=True):
        left = 1 - 0.1 * 0.5 if "kernel" in variable.path.rsplit("/", 1)[-1] else 1.0
        np.testing.assert_allclose(keras.ops.convert_to_numpy(variable), left * start, atol=1e-6, err_msg=variable.path)


def test_custom_callbacks_and_augmentation_are_used(tiny_config, shapes, tmp_path, eager):
    from trainkit.imgaug_compat import iaa

    class Note(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["noted"] = 7.0

    calls = []

    def look(images, *_):
        calls.append(len(images))
        return images

    model = new_model(tiny_config(VALIDATION_STEPS=0), tmp_path)
    augmenter = iaa.Lambda(func_images=look, func_segmentation_maps=lambda maps, *_: maps)
    model.train(shapes(), shapes(), 0.001, 1, "all", augmentation=augmenter, custom_callbacks=[Note()])
    assert calls
    assert float(read_log(model)[0]["noted"]) == 7
    calls.clear()
    model.train(shapes(), shapes(), 0.001, 2, "all", augmentation=augmenter, no_augmentation_sources=["shapes"])
    assert not calls


def test_a_diverged_training_stops_before_its_weights_are_written(tiny_config, shapes, tmp_path, eager):
    model = new_model(tiny_config(), tmp_path)
    kernel = model.keras_model.get_layer("fpn_p2").kernel
    kernel.assign(np.full(kernel.shape, np.nan, np.float32))
    with pytest.raises(TrainingDivergedError, match="lower learning rate"):
        model.train(shapes(), shapes(), 0.01, epochs=1, layers="all")
    assert not list(tmp_path.glob("*/*.h5"))


def test_a_twin_detects_with_the_weights_in_training(tiny_config, shapes, tmp_path, eager):
    model = new_model(tiny_config(VALIDATION_STEPS=0), tmp_path)
    twin = model.inference_twin(tiny_config(DETECTION_MAX_INSTANCES=5))
    image = shapes().load_image(0)
    (before,) = twin.detect_instances([image])
    model.train(shapes(), shapes(), 0.05, epochs=1, layers="all")
    twin.copy_weights_from(model)
    (after,) = twin.detect_instances([image])
    for name, weights in weights_of(twin).items():
        for ours, theirs in zip(weights, weights_of(model)[name], strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert len(after) <= 5
    assert len(before) != len(after) or (before.scores != after.scores).any()


def test_a_dataset_with_other_classes_is_refused(tiny_config, shapes, tmp_path):
    model = new_model(tiny_config(NUM_CLASSES=2), tmp_path)
    with pytest.raises(ValueError, match=r"has 3 classes .*NUM_CLASSES is 2"):
        model.train(shapes(), shapes(), 0.01, 1, "all")
