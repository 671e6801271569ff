"""Shipped experiments: each can be carried out and described, and agrees with its publication."""

from collections import Counter

import numpy as np
import pytest

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


@pytest.mark.parametrize("name", TRAINED)
def test_quick_changes_sizes_and_not_what_is_done(name):
    full, small = EXPERIMENTS[name], quick(EXPERIMENTS[name])
    same = ("DECODER", "TARGETS", "LOSS", "POSTPROCESS", "OVERLAP_RULE", "OPTIMIZER", "CLAHE")
    less_deep = dict.fromkeys(("resnet101", "resnet152"), "resnet50")
    for before, after in zip(full.trainings, small.trainings, strict=True):
        long, short = full.training_config(before), small.training_config(after)
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
    shares = [published("vuola-ensemble")[f"picked_{member.model}", ""] for member in ensemble.members]
    assert sum(shares) == pytest.approx(1)
    small = quick(ensemble)
    assert [member.source for member in small.members] == [small.source] * 2
    text = " ".join(describe(ensemble).split())
    assert all(member.name in text for member in ensemble.members) and "picked_mask_rcnn 0.59" in text


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"'zhang-finale'.*zhang-final"):
        find_experiment("zhang-finale")
