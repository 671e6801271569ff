"""Shipped experiments: each can be carried out and described, and agrees with its publication."""

import json
from collections import Counter

import numpy as np
import pytest

from mrcnn.resizing import resize_image
from nucleus.evaluation.scores.ranking import PUBLISHED
from nucleus.experiments.publications import EXPERIMENTS, SHIPPED_FILES, find_experiment
from nucleus.experiments.publications.describe import describe, list_experiments
from nucleus.experiments.publications.experiment import PREVIOUS
from nucleus.experiments.publications.quick import quick

TRAINED = [name for name, experiment in EXPERIMENTS.items() if not experiment.members]


def last_config(experiment):
    return experiment.training_config(experiment.trainings[-1])


def published(name):
    return {(figure.metric, figure.part): figure.value for figure in EXPERIMENTS[name].figures}


def test_every_file_is_read_and_every_row_has_an_experiment():
    assert sorted(SHIPPED_FILES) == sorted(SHIPPED_FILES[0].parent.glob("*.toml"))
    rows = Counter(name.partition("-")[0] for name in EXPERIMENTS)
    assert rows == {"mlp": 7, "lehmann": 2, "zhang": 8, "andrade": 7, "vuola": 20}


@pytest.mark.parametrize("name", TRAINED)
def test_every_experiment_has_its_configurations_and_a_description(name):
    experiment = EXPERIMENTS[name]
    for training in experiment.trainings:
        config = experiment.training_config(training)
        if experiment.model == "unet":
            assert (config.ENCODER_WEIGHTS == "imagenet") == (training.weights == "imagenet")
    assert experiment.inference_config().model_kind == experiment.model
    text = " ".join(describe(experiment).split())
    assert all(word in text for word in (experiment.citation.title, "published:", "stages:", *experiment.notes))
    assert name in list_experiments(EXPERIMENTS.values())


@pytest.mark.parametrize(
    ("name", "score", "value"),
    [
        ("mlp-512-nms06", ("mAP", ""), 0.379),
        ("zhang-final", ("mAP", ""), 0.401),
        ("zhang-anchors512", ("mAP", ""), None),
        ("andrade-xception-inceptionse", ("mAP", ""), 0.420),
        ("andrade-xception-inceptionse", ("IoU", ""), None),
        ("andrade-loss-soft-dice", ("IoU", ""), None),
        ("vuola-unet-hc-pretrained-resnet50-fpn", ("Dice", ""), 0.658),
        ("vuola-mask-rcnn-gentle-resnet101", ("precision", "histology"), 0.698),
        ("vuola-ensemble", ("mAP", "fluorescence"), 0.570),
    ],
)
def test_scores_are_those_printed_in_the_publications(name, score, value):
    assert published(name)[score] == value


@pytest.mark.parametrize(("name", "row"), [("lehmann-unet", "DTU-UNET"), ("lehmann-mask-rcnn", "DTU-MASKRCNN")])
def test_scores_on_glas_are_those_of_the_ranking_and_give_the_published_rank_sum(name, row):
    scores = published(name)
    metrics = ("object_F1", "object_Dice", "object_Hausdorff")
    assert tuple(scores[metric, part] for metric in metrics for part in "AB") == tuple(PUBLISHED[row])
    values = np.array([*PUBLISHED.values()]) * [-1, -1, -1, -1, 1, 1]
    ranks = dict(zip(PUBLISHED, (values[:, None] > values[None]).sum(axis=1).sum(axis=1) + 6, strict=True))
    assert scores["rank_sum", ""] == ranks[row]


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if ("mAP", "histology") in published(name)])
def test_scores_by_modality_fit_those_of_all_images_in_table_5_1(name):
    scores = published(name)
    for errors in ("oseg", "useg"):
        assert scores[errors, ""] == scores[errors, "fluorescence"] + scores[errors, "histology"]
    for metric in ("mAP", "Dice", "precision", "recall"):
        assert scores[metric, "histology"] < scores[metric, ""] < scores[metric, "fluorescence"]


@pytest.mark.parametrize("name", [name for name in TRAINED if name.startswith("mlp-") and "unet" not in name])
def test_names_of_the_mlp_rows_say_their_settings(name):
    _, side, nms, *anchors = name.split("-")
    config = last_config(EXPERIMENTS[name])
    assert int(side) == config.IMAGE_MAX_DIM
    assert int(nms.removeprefix("nms")) / 10 == config.DETECTION_NMS_THRESHOLD
    assert config.RPN_ANCHOR_SCALES[0] == int((anchors or ["8"])[0].removeprefix("anchors"))


@pytest.mark.parametrize("name", [name for name in TRAINED if name.startswith("zhang-") and name != "zhang-fcn8s"])
def test_summaries_of_the_zhang_rows_say_their_settings(name):
    experiment = EXPERIMENTS[name]
    config = last_config(experiment)
    assert (
        f"{config.RPN_TRAIN_ANCHORS_PER_IMAGE} RPN anchors, {config.TRAIN_ROIS_PER_IMAGE} RoIs, RPN NMS "
        f"{config.RPN_NMS_THRESHOLD:g}" in experiment.summary
    )
    assert ("without augmentation" in experiment.summary) == (config.AUGMENTATION == "none")
    assert experiment.inference_config().DETECTION_MAX_INSTANCES == 100, "section 3.4.1"


@pytest.mark.parametrize("name", [name for name in TRAINED if name.startswith("vuola-")])
def test_names_of_the_thesis_rows_say_their_settings(name):
    experiment, config = EXPERIMENTS[name], last_config(EXPERIMENTS[name])
    assert ("strong" if "-hc-" in name else "gentle") == config.AUGMENTATION
    network = config.ENCODER if experiment.model == "unet" else config.BACKBONE
    assert name.removesuffix("-fpn").endswith(network)
    if experiment.model == "unet":
        assert ("fpn" if name.endswith("-fpn") else "plain") == config.DECODER
        assert (experiment.trainings[0].weights == "imagenet") == ("pretrained" in name)
        frozen = config.STAGES[0][0] == "decoder"
        assert frozen == ("pretrained" in name), "random weights are not frozen"


def test_the_glas_u_net_is_trained_with_sgd_and_then_tuned_with_adam():
    experiment = EXPERIMENTS["lehmann-unet"]
    first, second = map(experiment.training_config, experiment.trainings)
    assert (first.OPTIMIZER, first.STAGES) == ("SGD", (("all", 900, 0.1),))
    assert (second.OPTIMIZER, second.STAGES) == ("Adam", (("all", 50, 0.00001),))
    assert [training.weights for training in experiment.trainings] == ["none", PREVIOUS]


def test_l2_is_that_of_the_frameworks_of_the_publications():
    """PyTorch's weight decay adds L2 times a weight to its gradient, the factor of the sum of squares twice as much."""
    unet, mask_rcnn, fcn = (EXPERIMENTS[name] for name in ("lehmann-unet", "lehmann-mask-rcnn", "zhang-fcn8s"))
    decays = [unet.training_config(training).WEIGHT_DECAY for training in unet.trainings]
    assert [2 * decay for decay in decays] == pytest.approx([0.00001, 0.001])
    config = last_config(mask_rcnn)
    assert (2 * config.WEIGHT_DECAY, config.WEIGHT_DECAY_REDUCTION) == (0.0005, "sum")
    assert 2 * last_config(fcn).WEIGHT_DECAY == 0.0005


def test_zhang_wei_and_yue_evaluate_when_they_say():
    config = last_config(EXPERIMENTS["zhang-anchors256"])
    assert (config.EVALUATE_FROM, config.EVALUATE_EVERY) == (5, 10), "section 3.4.2"
    config = last_config(EXPERIMENTS["zhang-fcn8s"])
    assert config.STEPS_PER_EPOCH * config.EVALUATE_EVERY == 2000, "section 3.3"
    assert config.STEPS_PER_EPOCH * config.STAGES[0][1] == 12000


def test_the_heads_of_zhang_wei_and_yue_are_those_of_table_2():
    config = last_config(EXPERIMENTS["zhang-final"])
    assert (config.BOX_HEAD_CHANNELS, config.FPN_CLASSIF_FC_LAYERS_SIZE) == (256, 1024)
    assert (config.MASK_CHANNELS, config.MASK_END_CHANNELS, config.MASK_ACTIVATION) == (256, 80, "softmax")
    assert config.RPN_INSIDE_ANCHORS and not config.COCO_HEADS
    assert (config.POST_NMS_ROIS_TRAINING, config.POST_NMS_ROIS_INFERENCE, config.MAX_GT_INSTANCES) == (2000, 1000, 100)


def test_the_u_net_for_glas_ends_in_a_3_x_3_convolution():
    experiment = EXPERIMENTS["lehmann-unet"]
    assert [experiment.training_config(training).LOGITS_SIZE for training in experiment.trainings] == [3, 3]
    assert experiment.inference_config().LOGITS_SIZE == 3, "section 5.2"


@pytest.mark.parametrize("width_and_height", [(574, 433), (589, 453), (775, 522), (567, 430), (578, 433), (581, 442)])
def test_images_of_glas_are_scaled_as_torchvision_scales_them(width_and_height):
    config = EXPERIMENTS["lehmann-mask-rcnn"].inference_config()
    image = np.zeros((*width_and_height[::-1], 1), np.uint8)
    scale = resize_image(
        image, config.IMAGE_MIN_DIM, config.IMAGE_MAX_DIM, config.IMAGE_MIN_SCALE, config.IMAGE_RESIZE_MODE
    )[2]
    assert scale == min(800 / min(width_and_height), 1333 / max(width_and_height))


def test_roi_align_takes_four_points_a_cell_where_the_text_says_so():
    for name in ("mlp-512-nms02", "lehmann-mask-rcnn"):
        assert last_config(EXPERIMENTS[name]).POOL_SAMPLES == 2


def test_an_epoch_of_rocha_de_andrade_is_a_pass_over_the_images():
    experiment = EXPERIMENTS["andrade-final"]
    (training,) = experiment.trainings
    steps = {count: experiment.recipe(training, images=count).settings["STEPS_PER_EPOCH"] for count in (645, 3000)}
    assert steps == {645: 81, 3000: 375}, "batches of eight"
    assert experiment.recipe(training, {"BATCH_SIZE": 4}, images=3000).settings["STEPS_PER_EPOCH"] == 750
    assert experiment.recipe(training, {"STEPS_PER_EPOCH": 7}, images=3000).settings["STEPS_PER_EPOCH"] == 7
    assert "STEPS_PER_EPOCH" not in EXPERIMENTS["zhang-final"].recipe(training, images=3000).settings


def test_post_processing_is_that_of_the_publications():
    for name, method in (
        ("zhang-fcn8s", "opening"),
        ("andrade-final", "watershed"),
        ("vuola-unet-hc-plain", "watershed"),
    ):
        config = EXPERIMENTS[name].inference_config()
        assert (method, False) == (config.POSTPROCESS, config.KEEP_UNMARKED)
    assert last_config(EXPERIMENTS["andrade-plain"]).PADDING == "symmetric", "section 5.2.1"
    assert last_config(EXPERIMENTS["andrade-xception"]).PADDING == "zeros", "section 5.2.2"


@pytest.mark.parametrize("name", TRAINED)
def test_quick_changes_sizes_and_not_what_is_done(name):
    full, small = EXPERIMENTS[name], quick(EXPERIMENTS[name])
    same = ("DECODER", "TARGETS", "LOSS", "POSTPROCESS", "KEEP_UNMARKED", "MIN_AREA", "FILL_HOLES", "OVERLAP_RULE")
    same += ("OPTIMIZER", "DETECTION_NMS_THRESHOLD", "RPN_NMS_THRESHOLD", "RPN_INSIDE_ANCHORS", "POOL_SAMPLES")
    before, after = full.inference_config(), small.inference_config()
    for attribute in ("POSTPROCESS", "OVERLAP_RULE", "DETECTION_MIN_CONFIDENCE", "DETECTION_NMS_THRESHOLD"):
        assert getattr(before, attribute, None) == getattr(after, attribute, None), attribute
    for before, after in zip(full.trainings, small.trainings, strict=True):
        long, short = full.training_config(before), small.training_config(after)
        for attribute in same:
            assert getattr(long, attribute, None) == getattr(short, attribute, None), attribute
        assert (after.start is not None) == (full.model == "mask_rcnn" or short.ENCODER != "plain")
        assert after.start is None or after.start.is_file()
        assert [stage[0] for stage in long.STAGES] == [stage[0] for stage in short.STAGES]
        assert [stage[1] for stage in short.STAGES] == [1] * len(long.STAGES)
        assert after.weights in ("none", PREVIOUS), "nothing is downloaded"
        json.dumps(dict(after.settings))
    assert small.figures == full.figures and small.source.tests.keys() == full.source.tests.keys()
    assert bool(small.source.folds) == bool(full.source.folds)
    small.inference_config()


def test_the_ensemble_is_that_of_table_5_1():
    ensemble = EXPERIMENTS["vuola-ensemble"]
    assert [member.figures[0].value for member in ensemble.members] == [0.515, 0.519]
    shares = [published("vuola-ensemble")[f"picked_{member.model}", ""] for member in ensemble.members]
    assert sum(shares) == pytest.approx(1)
    small = quick(ensemble)
    assert [member.source for member in small.members] == [small.source] * 2
    text = " ".join(describe(ensemble).split())
    assert all(member.name in text for member in ensemble.members) and "picked_mask_rcnn 0.59" in text


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"'zhang-finale'.*zhang-final"):
        find_experiment("zhang-finale")
