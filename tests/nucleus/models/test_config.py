"""Configurations: the lineage's settings, the presets, and the refusal of what cannot be used."""

import numpy as np
import pytest

from mrcnn.config import ConfigError
from nucleus.models.mask_rcnn_presets import PRESETS
from nucleus.models.registry import MODELS, NETWORKS, make_config
from nucleus.models.settings import inference_settings


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_makes_one_network_for_training_and_inference(name):
    training, inference = make_config("training", name), make_config("inference", name)
    for attribute in ("BACKBONE", "RPN_ANCHOR_SCALES", "NUM_CLASSES", "CLAHE", "RPN_CHANNELS", "MASK_CHANNELS"):
        assert getattr(training, attribute) == getattr(inference, attribute)
    np.testing.assert_array_equal(training.MEAN_PIXEL, inference.MEAN_PIXEL)
    assert inference.BATCH_SIZE == 1 and inference.IMAGE_RESIZE_MODE != "crop"
    assert PRESETS[name].summary and PRESETS[name].source


def test_single_settings_win_over_the_preset():
    config = make_config("training", "resnet101-512-nms02", {"CLAHE": "False", "RPN_NMS_THRESHOLD": "0.5"})
    assert config.CLAHE is False
    assert config.RPN_NMS_THRESHOLD == 0.5
    assert config.DETECTION_NMS_THRESHOLD == 0.2


def test_stages_are_read_from_text():
    config = make_config("training", settings={"STAGES": "[('heads', 1), ['4+', 2, 0.01]]"})
    assert config.STAGES == (("heads", 1), ("4+", 2, 0.01))


def test_a_training_hands_neither_its_batch_nor_its_windows_to_detection():
    settings = {"IMAGES_PER_GPU": "4", "IMAGE_RESIZE_MODE": "crop", "IMAGE_MIN_DIM": "256", "MIN_AREA": "9"}
    assert inference_settings(settings) == {"IMAGE_MIN_DIM": "256", "MIN_AREA": "9"}


@pytest.mark.parametrize(
    ("settings", "cause"),
    [
        ({"NO_SUCH": "1"}, "NO_SUCH"),
        ({"STAGES": "heads"}, "STAGES"),
        ({"STAGES": "[('heads', 0)]"}, "STAGES"),
        ({"STAGES": "[('heads', 1, -0.1)]"}, "STAGES"),
        ({"STAGES": "[]"}, "STAGES"),
        ({"OVERLAP_RULE": "first"}, "OVERLAP_RULE"),
        ({"AUGMENTATION": "none at all"}, "AUGMENTATION"),
        ({"CLAHE": "maybe"}, "CLAHE"),
        ({"CLAHE_CLIP_LIMIT": "0"}, "CLAHE_CLIP_LIMIT"),
        ({"CLAHE_TILE_GRID": "(8, 0)"}, "CLAHE_TILE_GRID"),
        ({"MIN_AREA": "-1"}, "MIN_AREA"),
        ({"IMAGES_PER_GPU": "two"}, "IMAGES_PER_GPU"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(settings, cause):
    with pytest.raises(ConfigError, match=cause):
        make_config("training", settings=settings)


def test_unknown_preset_and_random_windows_in_detection_are_refused():
    with pytest.raises(ConfigError, match="resnet101-two-stage"):
        make_config("training", "resnet9000")
    with pytest.raises(ConfigError, match="training only"):
        make_config("inference", settings={"IMAGE_RESIZE_MODE": "crop"})
    with pytest.raises(ConfigError, match=r"Unknown preset 'lineage' of unet.*xception"):
        make_config("inference", "lineage", model="unet")
    with pytest.raises(ConfigError, match="Unknown model 'segnet'"):
        make_config("training", model="segnet")


@pytest.mark.parametrize("name", MODELS["unet"].presets)
def test_every_preset_of_the_unet_makes_one_network_for_training_and_inference(name):
    training, inference = (make_config(mode, name, model="unet") for mode in ("training", "inference"))
    different = {key for key, value in training.to_dict().items() if getattr(inference, key) != value}
    assert different <= {"ENCODER_WEIGHTS"} and inference.ENCODER_WEIGHTS is None
    assert training.NAME == "nucleus"


def test_the_application_around_every_model_is_set_alike():
    for model in NETWORKS:
        settings = {"CLAHE": "True", "CLAHE_TILE_GRID": "(4, 2)", "EVALUATE_EVERY": "3", "MIN_AREA": "7"}
        config = make_config("training", settings=settings, model=model)
        assert (config.CLAHE, config.CLAHE_TILE_GRID, config.EVALUATE_EVERY, config.MIN_AREA) == (True, (4, 2), 3, 7)
        for wrong in (
            {"AUGMENTATION": "some"},
            {"EVALUATE_EVERY": "-1"},
            {"EVALUATE_FROM": "-1"},
            {"CLAHE_CLIP_LIMIT": "0"},
        ):
            with pytest.raises(ConfigError, match=next(iter(wrong))):
                make_config("training", settings=wrong, model=model)


def test_a_unet_for_inference_begins_without_weights():
    settings = {"ENCODER_WEIGHTS": "imagenet", "MASK_THRESHOLD": "0.4"}
    assert inference_settings(settings) == {"MASK_THRESHOLD": "0.4"}
    assert make_config("inference", settings=settings, model="unet").ENCODER_WEIGHTS is None
    assert make_config("training", settings=settings, model="unet").ENCODER_WEIGHTS == "imagenet"
