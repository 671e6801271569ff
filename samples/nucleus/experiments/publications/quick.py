"""Small versions of experiments, which a CPU runs end to end in a minute, and which find nuclei.

Networks begin with shipped weights where there are some for their kind; others learn the very images that are scored.
So a model that finds little in them has a fault, in its training or in what becomes of its output.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nucleus.datasets.dataset import shipped_data
from nucleus.experiments.publications.experiment import PREVIOUS, Experiment, PublishedDataSet, Training
from nucleus.models.mask_rcnn import MaskRCNNModel
from nucleus.models.mask_rcnn_presets import PRESETS
from nucleus.models.recipe import changed_settings
from nucleus.models.registry import make_config
from nucleus.models.unet import NucleusUNetConfig, UNetModel
from nucleus.models.weights import existing_file, find_recipe

# Images of each subset; folds, and images that are divided into them.
_IMAGES, _FOLDS = 1, 2
_QUICK = {"VALIDATION_STEPS": 0, "EVALUATE_EVERY": 0, "DATA_WORKERS": 0, "AUGMENTATION": "none"}

# Shipped U-Nets.
_SHIPPED_UNETS = ("nucleus_unet", "nucleus_light")
# Divisor of the filters of a plain encoder's levels, the least of them, and the filters of FCN-8s' last two layers.
_NARROWER, _LEAST_FILTERS, _FCN_FILTERS = 16, 8, 32
# Settings of a U-Net that its weights belong to: the network, and the pixels that it expects.
_OF_UNET = (
    "ENCODER",
    "ENCODER_WEIGHTS",
    "DECODER_FILTERS",
    "LOGITS_SIZE",
    "IMAGE_SKIP_FILTERS",
    "ACTIVATION",
    "BATCH_NORM",
    "PADDING",
    "SE_RATIO",
    "CLAHE",
    "STRETCH",
)
# Pixels a side of images that are learnt; shipped U-Nets see them twice as large.
_SIDE = 128
_QUICK_UNET = {**_QUICK, "BATCH_SIZE": 1}
# Random layers learn an image in a stage of so many steps, by decoder, at these rates: without batch normalisation,
# whose averages need many more, and with an activation that does without it.
_LEARNT = {
    "ENCODER": "plain",
    "ENCODER_WEIGHTS": None,
    "IMAGE_SIZE": _SIDE,
    "BATCH_NORM": False,
    "ACTIVATION": "relu",
    "KERNEL_INITIALIZER": "he_normal",
}
_STEPS, _STEPS_OF_FCN = 150, 450
_RATES = {"Adam": 0.005, "AdamW": 0.005, "SGD": 0.1}

# The shipped Mask R-CNN stands in for all. These settings are its own: the network, and the pixels that it expects.
_SHIPPED_MASK_RCNN = "nucleus_mask_rcnn"
_OF_MASK_RCNN = (
    "BACKBONE",
    "ROI_ALIGNED",
    "TOP_DOWN_PYRAMID_SIZE",
    "RPN_CHANNELS",
    "RPN_ANCHOR_SCALES",
    "FPN_CLASSIF_FC_LAYERS_SIZE",
    "BOX_HEAD_CHANNELS",
    "MASK_CHANNELS",
    "MASK_END_CHANNELS",
    "MASK_ACTIVATION",
    "TRAIN_BN",
    "MEAN_PIXEL",
    "STRETCH",
    "CLAHE",
)
_QUICK_MASK_RCNN = {
    **_QUICK,
    "STEPS_PER_EPOCH": 1,
    "IMAGES_PER_GPU": 1,
    "IMAGE_MIN_DIM": 512,
    "IMAGE_MAX_DIM": 512,
    "RPN_TRAIN_ANCHORS_PER_IMAGE": 32,
    "PRE_NMS_LIMIT": 1000,
    "POST_NMS_ROIS_TRAINING": 100,
    "POST_NMS_ROIS_INFERENCE": 300,
    "TRAIN_ROIS_PER_IMAGE": 16,
    "MAX_GT_INSTANCES": 50,
    "DETECTION_MAX_INSTANCES": 100,
}


def quick(experiment: Experiment) -> Experiment:
    """Returns a small version of an experiment, with all of its parts.

    Division, stages, losses, optimizers, decoder, channels, post-processing and metrics are the experiment's. Images
    are shipped ones, one a subset and two in folds, and every model is trained on the images that it is scored on,
    without augmentation. A stage has one epoch. Every Mask R-CNN is the shipped one, and so is a U-Net where a shipped
    one has its decoder and channels; the others have a narrow plain encoder and learn. The scores say only that nuclei
    are found.

    Args:
        experiment: The experiment.
    """
    return replace(
        experiment,
        source=_quick_source(experiment.source),
        trainings=tuple(_quick_training(experiment.model, training) for training in experiment.trainings),
        members=tuple(map(quick, experiment.members)),
        # Views of one size, where there are views.
        inference={name: value for name, value in experiment.inference.items() if name != "TEST_TIME_SCALES"},
        whole_epochs=False,
    )


def _quick_source(source: PublishedDataSet) -> PublishedDataSet:
    return replace(
        source,
        default=str(shipped_data()),
        tests=dict.fromkeys(source.tests, "val"),
        folds=min(source.folds, _FOLDS),
        held_out=source.held_out[:_FOLDS],
        limit=_FOLDS if source.folds else _IMAGES,
        fit=source.fit and 2 * _SIDE,
        learns_scored=True,
    )


def _quick_training(model: str, training: Training) -> Training:
    config = make_config("training", training.preset, training.settings, model)
    made = _QUICK_TRAININGS[model](training, config)
    return replace(made, weights=PREVIOUS, start=None) if training.weights == PREVIOUS else made


def _quick_unet(training: Training, config: NucleusUNetConfig) -> Training:
    shipped = _shipped_unet(config)
    if shipped is not None:
        path, of_recipe = shipped
        network = {name: getattr(of_recipe, name) for name in _OF_UNET}
        settings = {**training.settings, **_QUICK_UNET, **network, "IMAGE_SIZE": 2 * _SIDE, "STEPS_PER_EPOCH": 1}
        return Training(training.preset, {**settings, "STAGES": _own_rates(config)}, start=path)
    stages = tuple((layers, 1, _RATES[config.OPTIMIZER]) for layers, *_ in config.STAGES)
    narrow = tuple(max(_LEAST_FILTERS, count // _NARROWER) for count in config.ENCODER_FILTERS)
    network = {**_LEARNT, "ENCODER_FILTERS": narrow, "DECODER_FILTERS": None, "STEPS_PER_EPOCH": _STEPS, "DROPOUT": 0.0}
    if config.DECODER == "fcn8s":
        network |= {"DECODER_FILTERS": (_FCN_FILTERS, _FCN_FILTERS), "STEPS_PER_EPOCH": _STEPS_OF_FCN}
    return Training(training.preset, {**training.settings, **_QUICK_UNET, **network, "STAGES": stages})


def _shipped_unet(config: NucleusUNetConfig) -> tuple[Path, NucleusUNetConfig] | None:
    """Returns the weights and the configuration of a shipped U-Net with the decoder and the channels of another."""
    for name in _SHIPPED_UNETS:
        path = existing_file(name)
        recipe = find_recipe(path)
        shipped = make_config("inference", recipe.preset, recipe.settings, recipe.model)
        if (shipped.DECODER, shipped.TARGETS) == (config.DECODER, config.TARGETS):
            return path, shipped
    return None


def _quick_mask_rcnn(training: Training, config: Any) -> Training:
    path = existing_file(_SHIPPED_MASK_RCNN)
    preset = find_recipe(path).preset
    differing = changed_settings(config, make_config("training", preset, model="mask_rcnn"))
    own: Mapping[str, Any] = {
        **{name: getattr(config, name) for name in PRESETS[preset].inference},
        **{name: value for name, value in differing.items() if name not in _OF_MASK_RCNN},
    }
    settings = {**own, **_QUICK_MASK_RCNN, "STAGES": _own_rates(config)}
    return Training(preset, settings, start=path)


def _own_rates(config: Any) -> tuple[tuple[Any, ...], ...]:
    """Returns the stages of a training with one epoch each."""
    return tuple((layers, 1, *rate) for layers, _, *rate in config.STAGES)


_QUICK_TRAININGS = {UNetModel.kind: _quick_unet, MaskRCNNModel.kind: _quick_mask_rcnn}
