"""Experiments: that each can be built, and says what its publication says. Values here were read from the texts."""

import numpy as np
import pytest

from nucleus.experiments.publications import EXPERIMENTS, find_experiment
from nucleus.experiments.publications.describe import describe, list_experiments
from nucleus.experiments.publications.experiment import GROUPS, PREVIOUS
from nucleus.experiments.publications.quick import quick
from nucleus.models.registry import MODELS, make_config

# The score that stands first for each: mAP, and for GlaS the F1 score on part A.
SCORES = {
    "mlp-unet-128": 0.315,
    "mlp-unet-512": 0.354,
    "mlp-512-nms02": 0.365,
    "mlp-512-nms06": 0.379,
    "mlp-512-nms06-anchors4": 0.379,
    "mlp-1024-nms06": 0.359,
    "mlp-1024-nms06-anchors16": 0.354,
    "lehmann-unet": 0.822,
    "lehmann-mask-rcnn": 0.922,
    "zhang-fcn8s": 0.229,
    "zhang-no-augmentation": None,
    "zhang-anchors128": None,
    "zhang-anchors256": None,
    "zhang-anchors512": None,
    "zhang-rois350": None,
    "zhang-rois350-nms05": None,
    "zhang-final": 0.401,
    "andrade-loss-cross-entropy": 0.358,
    "andrade-loss-soft-dice": 0.320,
    "andrade-loss-combined": 0.361,
    "andrade-plain": 0.273,
    "andrade-xception": 0.322,
    "andrade-xception-inceptionse": 0.420,
    "andrade-final": 0.469,
    "vuola-unet-hc-plain": 0.488,
    "vuola-unet-hc-plain-fpn": 0.483,
    "vuola-unet-hc-pretrained-resnet50": 0.496,
    "vuola-unet-hc-pretrained-resnet50-fpn": 0.494,
    "vuola-unet-hc-pretrained-resnet101": 0.458,
    "vuola-unet-hc-pretrained-resnet152": 0.481,
    "vuola-unet-hc-resnet152": 0.443,
    "vuola-unet-hc-resnet101": 0.432,
    "vuola-unet-hc-resnet50": 0.451,
    "vuola-unet-gentle-plain": 0.485,
    "vuola-unet-gentle-plain-fpn": 0.481,
    "vuola-unet-gentle-resnet50": 0.512,
    "vuola-unet-gentle-resnet101": 0.463,
    "vuola-unet-gentle-pretrained-resnet50": 0.501,
    "vuola-unet-gentle-pretrained-resnet101": 0.515,
    "vuola-mask-rcnn-gentle-resnet50": 0.517,
    "vuola-mask-rcnn-hc-resnet50": 0.516,
    "vuola-mask-rcnn-gentle-resnet101": 0.519,
    "vuola-mask-rcnn-hc-resnet101": 0.513,
    "vuola-ensemble": 0.523,
}
TRAINED = [name for name, experiment in EXPERIMENTS.items() if not experiment.members]
STAGES = (("heads", 100, 0.001), ("4+", 50, 0.001))
TWO_STAGES = (("decoder", 5, 0.001), ("all", 15, 0.0001))
# Settings of the last training that the texts give.
SETTINGS = {
    "mlp-unet-128": {"IMAGE_SIZE": 128, "INFERENCE_MODE": "resize", "CLAHE": True},
    "mlp-unet-512": {"IMAGE_SIZE": 512, "TARGETS": "mask", "AUGMENTATION": "flips-rotations"},
    "mlp-512-nms02": {"BACKBONE": "resnet101", "IMAGE_MAX_DIM": 512, "CLAHE": True, "DETECTION_NMS_THRESHOLD": 0.2},
    "mlp-512-nms06": {"RPN_ANCHOR_SCALES": (8, 16, 32, 64, 128), "DETECTION_NMS_THRESHOLD": 0.6},
    "mlp-512-nms06-anchors4": {"RPN_ANCHOR_SCALES": (4, 8, 16, 32, 64), "IMAGE_MAX_DIM": 512},
    "mlp-1024-nms06": {"RPN_ANCHOR_SCALES": (8, 16, 32, 64, 128), "IMAGE_MAX_DIM": 1024},
    "mlp-1024-nms06-anchors16": {"RPN_ANCHOR_SCALES": (16, 32, 64, 128, 256), "IMAGE_MAX_DIM": 1024},
    "lehmann-unet": {
        "OPTIMIZER": "Adam",
        "LEARNING_RATE": 0.00001,
        "WEIGHT_DECAY": 0.001,
        "BATCH_SIZE": 6,
        "STAGES": (("all", 50, 0.00001),),
        "POSTPROCESS": "components",
        "IMAGE_SIZE": 512,
    },
    "lehmann-mask-rcnn": {
        "BACKBONE": "resnet50",
        "OPTIMIZER": "SGD",
        "LEARNING_RATE": 0.005,
        "WEIGHT_DECAY": 0.0005,
        "WEIGHT_DECAY_REDUCTION": "sum",
        "BATCH_SIZE": 2,
        "MASK_CHANNELS": 256,
        "STAGES": (("3+", 500, 0.005),),
    },
    "zhang-fcn8s": {
        "ENCODER": "vgg16",
        "DECODER": "fcn8s",
        "DROPOUT": 0.5,
        "POSTPROCESS": "opening",
        "LEARNING_RATE": 0.00001,
        "OPTIMIZER": "Adam",
    },
    "zhang-no-augmentation": {"AUGMENTATION": "none", "STAGES": STAGES},
    "zhang-anchors128": {"RPN_TRAIN_ANCHORS_PER_IMAGE": 128, "TRAIN_ROIS_PER_IMAGE": 200, "RPN_NMS_THRESHOLD": 0.7},
    "zhang-anchors256": {
        "RPN_TRAIN_ANCHORS_PER_IMAGE": 256,
        "TRAIN_ROIS_PER_IMAGE": 200,
        "RPN_NMS_THRESHOLD": 0.7,
        "OVERLAP_RULE": "largest",
        "AUGMENTATION": "flips-brightness",
        "RPN_ANCHOR_SCALES": (32, 64, 128, 256, 512),
        "DETECTION_NMS_THRESHOLD": 0.3,
        "DETECTION_MIN_CONFIDENCE": 0.7,
        "STEPS_PER_EPOCH": 100,
        "EVALUATE_EVERY": 10,
        "OPTIMIZER": "SGD",
        "STAGES": STAGES,
    },
    "zhang-anchors512": {"RPN_TRAIN_ANCHORS_PER_IMAGE": 512, "TRAIN_ROIS_PER_IMAGE": 200, "RPN_NMS_THRESHOLD": 0.7},
    "zhang-rois350": {"RPN_TRAIN_ANCHORS_PER_IMAGE": 256, "TRAIN_ROIS_PER_IMAGE": 350, "RPN_NMS_THRESHOLD": 0.7},
    "zhang-rois350-nms05": {"TRAIN_ROIS_PER_IMAGE": 350, "RPN_NMS_THRESHOLD": 0.5},
    "zhang-final": {"BACKBONE": "resnet101", "IMAGE_MAX_DIM": 512, "TRAIN_ROIS_PER_IMAGE": 350},
    "andrade-loss-cross-entropy": {"LOSS": "bce", "STAGES": (("all", 20, 0.001),), "ENCODER": "xception"},
    "andrade-loss-soft-dice": {"LOSS": "dice", "STAGES": (("all", 20, 0.001),), "DECODER": "plain"},
    "andrade-loss-combined": {"LOSS": "bce-dice", "STAGES": (("all", 20, 0.001),), "DECODER": "plain"},
    "andrade-plain": {"ENCODER": "plain", "BATCH_NORM": True, "STAGES": (("all", 20, 0.001),), "ACTIVATION": "selu"},
    "andrade-xception": {"ENCODER": "xception", "DECODER": "plain", "STAGES": TWO_STAGES},
    "andrade-xception-inceptionse": {"ENCODER": "xception", "DECODER": "inception-se", "STAGES": TWO_STAGES},
    "andrade-final": {"DECODER": "inception-se", "STAGES": TWO_STAGES, "LOSS": "bce-dice", "POSTPROCESS": "watershed"},
}


def last_config(experiment):
    training = experiment.trainings[-1]
    return make_config("training", training.preset, training.settings, experiment.model)


def published(name):
    return {(figure.metric, figure.part): figure.value for figure in EXPERIMENTS[name].figures}


def test_there_is_one_for_every_row():
    assert {name: experiment.figures[0].value for name, experiment in EXPERIMENTS.items()} == SCORES


@pytest.mark.parametrize("name", TRAINED)
def test_every_setting_can_be_used(name):
    experiment = EXPERIMENTS[name]
    for training in experiment.trainings:
        config = make_config("training", training.preset, training.settings, experiment.model)
        known = (*MODELS[experiment.model].pretrained, "none", PREVIOUS)
        assert training.weights in known
        if experiment.model == "unet":
            assert (config.ENCODER_WEIGHTS == "imagenet") == (training.weights == "imagenet")
    assert experiment.trainings[0].weights != PREVIOUS, "there is none before the first"
    assert experiment.inference_config().model_kind == experiment.model
    source = experiment.source
    assert set(source.held_out) <= set(range(1, source.folds + 1)) and bool(source.held_out) == bool(source.folds)
    parts = {"", *GROUPS, *source.tests}
    assert {figure.part for figure in experiment.figures} <= parts
    assert len(published(name)) == len(experiment.figures), "no figure is there twice"
    text = describe(experiment)
    assert all(word in " ".join(text.split()) for word in (experiment.citation.title, "published:", "stages:"))
    assert name in list_experiments(EXPERIMENTS.values())


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_are_those_of_the_text(name):
    config = last_config(EXPERIMENTS[name])
    for attribute, value in SETTINGS[name].items():
        assert getattr(config, attribute) == value, attribute


@pytest.mark.parametrize("name", [name for name in TRAINED if name.startswith("vuola")])
def test_names_of_the_thesis_rows_say_their_settings(name):
    experiment, config = EXPERIMENTS[name], last_config(EXPERIMENTS[name])
    augmentation = "strong" if "-hc-" in name else "gentle"
    assert augmentation == config.AUGMENTATION
    assert (experiment.source.folds, experiment.source.held_out) == (4, (1, 2, 3, 4))
    assert config.MIN_AREA == 10 and config.COLOUR_TRANSFER > 0
    network = config.ENCODER if experiment.model == "unet" else config.BACKBONE
    assert name.removesuffix("-fpn").endswith(network)
    if experiment.model == "unet":
        decoder = "fpn" if name.endswith("-fpn") else "plain"
        assert decoder == config.DECODER
        assert config.TARGETS == "mask-border" and config.POSTPROCESS == "watershed" and config.FILL_HOLES
        assert (experiment.trainings[0].weights == "imagenet") == ("pretrained" in name)
        frozen = config.STAGES[0][0] == "decoder"
        assert frozen == ("pretrained" in name), "random weights are not frozen"
    else:
        assert (
            config.OVERLAP_RULE == "nearest-centroid"
            and config.FILL_HOLES
            and experiment.trainings[0].weights == "imagenet"
        )


@pytest.mark.parametrize("name", [name for name in TRAINED if name.startswith("andrade")])
def test_what_all_rows_of_rocha_de_andrade_have_in_common(name):
    config = last_config(EXPERIMENTS[name])
    # Section 5.1, without the blur, noise, brightness and contrast that section 8 had no time for.
    assert config.AUGMENTATION == "affine-channels"
    assert (config.IMAGE_MODE, config.IMAGE_SIZE, config.INFERENCE_MODE) == ("resize", 256, "resize")
    assert config.TARGETS == "mask-borderless-touching" and config.POSTPROCESS == "watershed"
    assert not config.FILL_HOLES and not EXPERIMENTS[name].inference_config().FILL_HOLES
    assert (config.OPTIMIZER, config.LEARNING_RATE_DECAY, config.DECAY_EPOCHS) == ("Adam", 0.25, 3)


@pytest.mark.parametrize("name", [name for name in TRAINED if name.startswith("zhang") and name != "zhang-fcn8s"])
def test_mask_rcnns_of_zhang_predict_a_hundred_masks(name):
    assert EXPERIMENTS[name].inference_config().DETECTION_MAX_INSTANCES == 100, "section 3.4.1"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("vuola-unet-hc-plain", "What the more advanced augmentations marked HC are is not said"),
        ("zhang-fcn8s", "Windows of 256 x 256 pixels are ours"),
        ("lehmann-unet", "images were normalised (section 5.3), it is not said how"),
    ],
)
def test_what_a_text_leaves_open_is_told(name, said):
    assert said in " ".join(describe(EXPERIMENTS[name]).split())


def test_the_first_training_of_the_glas_u_net_is_that_of_the_text():
    first, second = EXPERIMENTS["lehmann-unet"].trainings
    config = make_config("training", first.preset, first.settings, "unet")
    assert (config.OPTIMIZER, config.LEARNING_RATE, config.WEIGHT_DECAY) == ("SGD", 0.1, 0.00001)
    assert config.STAGES == (("all", 900, 0.1),) and config.ENCODER_FILTERS == (64, 128, 256, 512, 1024)
    assert (first.weights, second.weights) == ("none", PREVIOUS)
    assert EXPERIMENTS["lehmann-unet"].source.fit == 512 and EXPERIMENTS["lehmann-mask-rcnn"].source.fit is None


@pytest.mark.parametrize(
    ("name", "part", "scores"),
    [
        ("lehmann-unet", "A", (0.822, 0.723, 126.685, 0.403, 0.211)),
        ("lehmann-unet", "B", (0.862, 0.791, 138.294, 0.380, 0.127)),
        ("lehmann-mask-rcnn", "A", (0.922, 0.905, 37.529, 0.540, 0.825)),
        ("lehmann-mask-rcnn", "B", (0.906, 0.872, 74.287, 0.540, 0.842)),
    ],
)
def test_figure_5_of_glas(name, part, scores):
    metrics = ("object_F1", "object_Dice", "object_Hausdorff", "BCE", "count_ratio")
    assert tuple(published(name)[metric, part] for metric in metrics) == scores


@pytest.mark.parametrize(
    ("name", "part", "scores"),
    [
        ("vuola-unet-gentle-pretrained-resnet101", "", (0.515, 0.660, 0.680, 0.577, 52, 383)),
        ("vuola-unet-gentle-pretrained-resnet101", "fluorescence", (0.564, 0.708, 0.733, 0.643, 38, 301)),
        ("vuola-unet-gentle-pretrained-resnet101", "histology", (0.298, 0.285, 0.502, 0.385, 14, 82)),
        ("vuola-mask-rcnn-gentle-resnet101", "", (0.519, 0.617, 0.812, 0.596, 14, 164)),
        ("vuola-mask-rcnn-gentle-resnet101", "fluorescence", (0.569, 0.684, 0.841, 0.663, 13, 132)),
        ("vuola-mask-rcnn-gentle-resnet101", "histology", (0.300, 0.236, 0.698, 0.405, 1, 32)),
        ("vuola-ensemble", "", (0.523, 0.659, 0.725, 0.607, 27, 328)),
        ("vuola-ensemble", "fluorescence", (0.570, 0.703, 0.767, 0.664, 23, 266)),
        ("vuola-ensemble", "histology", (0.316, 0.289, 0.586, 0.442, 4, 62)),
        ("vuola-unet-gentle-pretrained-resnet50", "", (0.501, 0.727, 0.653, 0.547, 43, 363)),
        ("vuola-mask-rcnn-hc-resnet101", "", (0.513, 0.577, 0.820, 0.561, 13, 209)),
    ],
)
def test_tables_5_1_and_5_2_of_the_thesis(name, part, scores):
    metrics = ("mAP", "Dice", "precision", "recall", "oseg", "useg")
    assert tuple(published(name)[metric, part] for metric in metrics) == scores


def test_published_rank_sums_are_those_of_the_published_scores():
    # Ranks of the two rows among all twelve of figure 5, from the table itself.
    from nucleus.evaluation.scores.ranking import PUBLISHED

    values = np.array([*PUBLISHED.values()]) * [-1, -1, -1, -1, 1, 1]
    ranks = dict(zip(PUBLISHED, (values[:, None] > values[None]).sum(axis=1).sum(axis=1) + 6, strict=True))
    assert published("lehmann-unet")["rank_sum", ""] == ranks["DTU-UNET"]
    assert published("lehmann-mask-rcnn")["rank_sum", ""] == ranks["DTU-MASKRCNN"]


@pytest.mark.parametrize("name", TRAINED)
def test_quick_changes_sizes_and_not_what_is_done(name):
    full, small = EXPERIMENTS[name], quick(EXPERIMENTS[name])
    same = ("DECODER", "TARGETS", "LOSS", "POSTPROCESS", "OVERLAP_RULE", "OPTIMIZER", "CLAHE")
    less_deep = dict.fromkeys(("resnet101", "resnet152"), "resnet50")
    for before, after in zip(full.trainings, small.trainings, strict=True):
        long = make_config("training", before.preset, before.settings, full.model)
        short = make_config("training", after.preset, after.settings, full.model)
        for attribute in same:
            assert getattr(long, attribute, None) == getattr(short, attribute, None), attribute
        for attribute in ("ENCODER", "BACKBONE"):
            network = getattr(long, attribute, None)
            assert getattr(short, attribute, None) == less_deep.get(network, network), attribute
        assert [stage[0] for stage in long.STAGES] == [stage[0] for stage in short.STAGES]
        assert [stage[1] for stage in short.STAGES] == [1] * len(long.STAGES)
        assert after.weights in ("none", PREVIOUS), "nothing is downloaded"
    assert small.figures == full.figures and small.source.tests.keys() == full.source.tests.keys()
    assert bool(small.source.folds) == bool(full.source.folds)
    small.inference_config()


def test_the_ensemble_is_that_of_table_5_1():
    ensemble = EXPERIMENTS["vuola-ensemble"]
    assert [member.figures[0].value for member in ensemble.members] == [0.515, 0.519]
    assert all(member.source == ensemble.source for member in ensemble.members)
    small = quick(ensemble)
    assert [member.source for member in small.members] == [small.source] * 2
    text = " ".join(describe(ensemble).split())
    assert all(member.name in text for member in ensemble.members) and "picked_mask_rcnn 0.59" in text


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"'zhang-finale'.*zhang-final"):
        find_experiment("zhang-finale")


@pytest.mark.parametrize(("prefix", "section"), [("zhang-", "section 3.4.2"), ("lehmann-", "section 6.3")])
def test_what_begins_with_less_of_coco_in_a_publication_than_here_is_told(prefix, section):
    begun = [e for name, e in EXPERIMENTS.items() if name.startswith(prefix) and e.trainings[0].weights == "coco"]
    assert begun and all(any(section in note and "begin untrained" in note for note in e.notes) for e in begun)
