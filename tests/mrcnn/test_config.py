"""The configuration: the lineage's defaults, subclassing, changes by name, checks."""

import numpy as np
import pytest

from mrcnn.config import Config, ConfigError

# Every attribute of matterport's Config 2.1 with its default.
LINEAGE = {
    "NAME": None,
    "GPU_COUNT": 1,
    "IMAGES_PER_GPU": 2,
    "STEPS_PER_EPOCH": 1000,
    "VALIDATION_STEPS": 50,
    "BACKBONE": "resnet101",
    "COMPUTE_BACKBONE_SHAPE": None,
    "BACKBONE_STRIDES": [4, 8, 16, 32, 64],
    "FPN_CLASSIF_FC_LAYERS_SIZE": 1024,
    "TOP_DOWN_PYRAMID_SIZE": 256,
    "NUM_CLASSES": 1,
    "RPN_ANCHOR_SCALES": (32, 64, 128, 256, 512),
    "RPN_ANCHOR_RATIOS": [0.5, 1, 2],
    "RPN_ANCHOR_STRIDE": 1,
    "RPN_NMS_THRESHOLD": 0.7,
    "RPN_TRAIN_ANCHORS_PER_IMAGE": 256,
    "PRE_NMS_LIMIT": 6000,
    "POST_NMS_ROIS_TRAINING": 2000,
    "POST_NMS_ROIS_INFERENCE": 1000,
    "USE_MINI_MASK": True,
    "MINI_MASK_SHAPE": (56, 56),
    "IMAGE_RESIZE_MODE": "square",
    "IMAGE_MIN_DIM": 800,
    "IMAGE_MAX_DIM": 1024,
    "IMAGE_MIN_SCALE": 0,
    "IMAGE_CHANNEL_COUNT": 3,
    "MEAN_PIXEL": [123.7, 116.8, 103.9],
    "TRAIN_ROIS_PER_IMAGE": 200,
    "ROI_POSITIVE_RATIO": 0.33,
    "POOL_SIZE": 7,
    "MASK_POOL_SIZE": 14,
    "MASK_SHAPE": [28, 28],
    "MAX_GT_INSTANCES": 100,
    "RPN_BBOX_STD_DEV": [0.1, 0.1, 0.2, 0.2],
    "BBOX_STD_DEV": [0.1, 0.1, 0.2, 0.2],
    "DETECTION_MAX_INSTANCES": 100,
    "DETECTION_MIN_CONFIDENCE": 0.7,
    "DETECTION_NMS_THRESHOLD": 0.3,
    "LEARNING_RATE": 0.001,
    "LEARNING_MOMENTUM": 0.9,
    "WEIGHT_DECAY": 0.0001,
    "LOSS_WEIGHTS": {
        "rpn_class_loss": 1.0,
        "rpn_bbox_loss": 1.0,
        "mrcnn_class_loss": 1.0,
        "mrcnn_bbox_loss": 1.0,
        "mrcnn_mask_loss": 1.0,
    },
    "USE_RPN_ROIS": True,
    "TRAIN_BN": False,
    "GRADIENT_CLIP_NORM": 5.0,
    "BATCH_SIZE": 2,
    "IMAGE_SHAPE": [1024, 1024, 3],
    "IMAGE_META_SIZE": 13,
}


def plain(value):
    return value.tolist() if isinstance(value, np.ndarray) else value


def test_has_every_attribute_of_the_lineage_with_its_default():
    config = Config()
    assert {name: plain(getattr(config, name)) for name in LINEAGE} == LINEAGE


def test_subclass_overrides_and_derives():
    class Balloons(Config):
        NAME = "balloon"
        IMAGES_PER_GPU = 3
        GPU_COUNT = 2
        NUM_CLASSES = 1 + 4
        IMAGE_MIN_DIM = 256
        IMAGE_MAX_DIM = 512
        IMAGE_CHANNEL_COUNT = 1

    config = Balloons()
    assert config.BATCH_SIZE == 6
    assert config.IMAGE_SHAPE.tolist() == [512, 512, 1]
    assert config.IMAGE_META_SIZE == 12 + 5
    assert Config().BATCH_SIZE == 2, "the base class keeps its own"


def test_crop_mode_makes_images_of_the_smaller_side():
    class Crops(Config):
        IMAGE_RESIZE_MODE = "crop"
        IMAGE_MIN_DIM = 128

    assert Crops().IMAGE_SHAPE.tolist() == [128, 128, 3]


def test_update_derives_anew():
    config = Config().update({"NUM_CLASSES": 4, "IMAGES_PER_GPU": 5, "IMAGE_MIN_DIM": 128, "IMAGE_MAX_DIM": 256})
    assert (config.IMAGE_META_SIZE, config.BATCH_SIZE, config.IMAGE_SHAPE.tolist()) == (16, 5, [256, 256, 3])
    assert Config.NUM_CLASSES == 1


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("NAME", "cells", "cells"),
        ("STEPS_PER_EPOCH", "7", 7),
        ("LEARNING_RATE", "1e-4", 1e-4),
        ("LEARNING_RATE", "1", 1.0),
        ("USE_MINI_MASK", "False", False),
        ("TRAIN_BN", "None", None),
        ("TRAIN_BN", "True", True),
        ("DETECTION_MIN_CONFIDENCE", "0", 0.0),
        ("IMAGE_MIN_SCALE", "2.0", 2.0),
        ("RPN_ANCHOR_SCALES", "[8, 16, 32, 64, 128]", (8, 16, 32, 64, 128)),
        ("RPN_ANCHOR_RATIOS", "(0.5, 1)", [0.5, 1]),
        ("LOSS_WEIGHTS", "{'rpn_bbox_loss': 2}", {**LINEAGE["LOSS_WEIGHTS"], "rpn_bbox_loss": 2.0}),
    ],
)
def test_update_reads_strings_as_a_command_line_gives_them(name, text, value):
    result = getattr(Config().update({name: text}), name)
    assert result == value
    assert type(result) is type(value)


def test_update_keeps_arrays_arrays():
    config = Config().update({"MEAN_PIXEL": "[1, 2, 3]", "BBOX_STD_DEV": (0.1, 0.1, 0.3, 0.3)})
    assert isinstance(config.MEAN_PIXEL, np.ndarray)
    np.testing.assert_array_equal(config.BBOX_STD_DEV, [0.1, 0.1, 0.3, 0.3])


def test_a_fraction_that_a_subclass_wrote_as_an_integer_is_still_one():
    class Undecayed(Config):
        WEIGHT_DECAY = 0

    assert Undecayed().update({"WEIGHT_DECAY": "1e-4"}).WEIGHT_DECAY == 1e-4


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STEPS_PER_EPOCH", "many"),
        ("STEPS_PER_EPOCH", 1.5),
        ("STEPS_PER_EPOCH", True),
        ("LEARNING_RATE", "fast"),
        ("LEARNING_RATE", None),
        ("USE_MINI_MASK", 1),
        ("TRAIN_BN", "yes"),
        ("RPN_ANCHOR_SCALES", "8"),
        ("RPN_ANCHOR_SCALES", ["a"] * 5),
        ("LOSS_WEIGHTS", {"no_such_loss": 1.0}),
        ("BACKBONE", 50),
        ("NAME", 3),
    ],
)
def test_wrong_type_names_the_attribute(name, value):
    with pytest.raises(ConfigError, match=f"{name}.*Received"):
        Config().update({name: value})


def test_unknown_name_gives_the_known_one():
    with pytest.raises(ConfigError, match=r"'learningrate'. Did you mean LEARNING_RATE\?"):
        Config().update({"learningrate": 1.0})
    with pytest.raises(ConfigError, match=r"'LEARNING_RAT'. Did you mean LEARNING_RATE"):
        Config().update({"LEARNING_RAT": 1.0})
    with pytest.raises(ConfigError, match=r"'VELOCITY'. Known: .*LEARNING_RATE"):
        Config().update({"VELOCITY": 1.0})


@pytest.mark.parametrize("name", ["BATCH_SIZE", "IMAGE_SHAPE", "IMAGE_META_SIZE"])
def test_computed_attributes_cannot_be_set(name):
    with pytest.raises(ConfigError, match=f"{name} is computed"):
        Config().update({name: 3})


def test_a_refused_update_changes_nothing():
    config = Config()
    with pytest.raises(ConfigError):
        config.update({"STEPS_PER_EPOCH": 3, "LEARNING_RATE": "fast"})
    assert config.STEPS_PER_EPOCH == 1000


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"IMAGE_RESIZE_MODE": "stretch"}, "IMAGE_RESIZE_MODE must be one of .*'stretch'"),
        ({"PRECISION": "float16"}, "PRECISION must be one of"),
        ({"OPTIMIZER": "Lion"}, "OPTIMIZER must be"),
        ({"WEIGHT_DECAY_REDUCTION": "max"}, "WEIGHT_DECAY_REDUCTION must be"),
        ({"BACKBONE": "vgg16"}, "BACKBONE must be one of .*'vgg16'"),
        ({"STAGES": "[('heads', 0)]"}, "STAGES needs a list of"),
        ({"RPN_ANCHOR_SCALES": (8, 16)}, "RPN_ANCHOR_SCALES needs one scale per pyramid level"),
        ({"IMAGE_MAX_DIM": 500}, "multiple of 64.*Received: 500"),
        ({"MEAN_PIXEL": [1.0, 2.0]}, "MEAN_PIXEL needs one value per channel"),
        ({"NUM_CLASSES": 0}, "NUM_CLASSES must be at least 1"),
        ({"IMAGES_PER_GPU": 0}, "IMAGES_PER_GPU must be at least 1"),
        ({"MAX_GT_INSTANCES": 0}, "MAX_GT_INSTANCES must be at least 1"),
        ({"RPN_NMS_THRESHOLD": 1.5}, "RPN_NMS_THRESHOLD must be above 0"),
        ({"ROI_POSITIVE_RATIO": 0}, "ROI_POSITIVE_RATIO must be above 0"),
        ({"RPN_ANCHOR_RATIOS": []}, "RPN_ANCHOR_RATIOS needs numbers"),
        ({"RPN_ANCHOR_RATIOS": [0.5, 0]}, "RPN_ANCHOR_RATIOS needs numbers"),
        ({"BACKBONE_STRIDES": [4, 8, 16, 32, 0]}, "BACKBONE_STRIDES needs numbers from 1 on"),
        ({"BBOX_STD_DEV": [0.1, 0.1]}, "BBOX_STD_DEV needs 4 numbers"),
        ({"MINI_MASK_SHAPE": (0, 0)}, "MINI_MASK_SHAPE needs numbers from 1 on"),
        ({"MASK_SHAPE": [14, 14]}, r"MASK_SHAPE must be twice MASK_POOL_SIZE \(14\)"),
        ({"MASK_SHAPE": [28]}, "MASK_SHAPE must be twice"),
        ({"STEPS_PER_EPOCH": 0}, "STEPS_PER_EPOCH must be at least 1"),
        ({"VALIDATION_STEPS": -1}, "VALIDATION_STEPS must be at least 0"),
        ({"RPN_ANCHOR_STRIDE": 0}, "RPN_ANCHOR_STRIDE must be at least 1"),
        ({"POST_NMS_ROIS_INFERENCE": -1}, "POST_NMS_ROIS_INFERENCE must be at least 1"),
        ({"LEARNING_RATE": -1.0}, "LEARNING_RATE must be above 0"),
        ({"SEED": -1}, "SEED must be at least 0"),
        ({"DETECTION_MIN_CONFIDENCE": -0.1}, "DETECTION_MIN_CONFIDENCE must be at least 0"),
        ({"NAME": "a/b"}, "NAME becomes part of file names"),
        ({"NAME": " "}, "NAME becomes part of file names"),
    ],
)
def test_validate_names_what_cannot_be_built(settings, message):
    with pytest.raises(ConfigError, match=message):
        Config().update(settings)


def test_steps_that_an_old_script_divided_are_rounded_up():
    class Old(Config):
        STEPS_PER_EPOCH = 131 / 2
        VALIDATION_STEPS = 25 // 2

    assert (Old().STEPS_PER_EPOCH, Old().VALIDATION_STEPS) == (66, 12)


def test_clipping_can_be_switched_off():
    config = Config().update({"GRADIENT_CLIP_NORM": "None"})
    config.validate()
    assert config.GRADIENT_CLIP_NORM is None


def test_images_of_their_own_size_need_no_multiple_of_64_up_front():
    Config().update({"IMAGE_RESIZE_MODE": "pad64", "IMAGE_MAX_DIM": 500})


def test_to_dict_has_own_and_derived_attributes():
    class Other(Config):
        MY_SETTING = 5

    settings = Other().to_dict()
    assert settings["MY_SETTING"] == 5
    assert set(LINEAGE) <= set(settings)
    assert list(settings) == sorted(settings)
    assert all(name.isupper() for name in settings)


def test_display_prints_every_setting(capsys):
    Config().display()
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines[2:-1]} == set(Config().to_dict())
