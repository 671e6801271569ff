"""Mask R-CNN as a nucleus model: settings, building, training, loading and painting."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mrcnn.config import RUN_FILES, Config, ConfigError
from nucleus.images.labels import OVERLAP_RULES
from nucleus.models.instances import InstanceModel
from nucleus.models.mask_rcnn_presets import PRESETS
from nucleus.models.network import DEEP, LEAST_DEEP, NetworkInWords, NetworkModel
from nucleus.models.settings import ApplicationSettings, inference_settings

if TYPE_CHECKING:
    from mrcnn.model import MaskRCNN
    from mrcnn.results import Instances

# Numbers of DSB2018 training images and of validation images among them in matterport's nucleus sample.
_IMAGES, _VALIDATION_IMAGES = 657, 25
# Maximum number of images of one size in a prediction batch.
_BATCH = 4
# Layers whose shape depends on the number of classes, 81 in COCO.
_COCO_HEADS = ["mrcnn_class_logits", "mrcnn_bbox_fc", "mrcnn_bbox", "mrcnn_mask"]
# Beginning of the names of all layers of the box head and the mask head.
_HEADS = "mrcnn_"

# Stages of fine-tuning. Adam's first steps at 0.0008 undo what was learned: the loss began at 7.5 instead of 1.1.
_FINE_TUNING = (("all", 4, 0.0003), ("all", 2, 0.0001))
# Sizes of a tiny network.
_TINY = {
    "IMAGE_MIN_DIM": 128,
    "IMAGE_MAX_DIM": 128,
    "IMAGE_MIN_SCALE": 0,
    "IMAGES_PER_GPU": 1,
    "TOP_DOWN_PYRAMID_SIZE": 32,
    "FPN_CLASSIF_FC_LAYERS_SIZE": 32,
    "RPN_CHANNELS": 32,
    "MASK_CHANNELS": 16,
    "RPN_TRAIN_ANCHORS_PER_IMAGE": 32,
    "PRE_NMS_LIMIT": 200,
    "POST_NMS_ROIS_TRAINING": 50,
    "POST_NMS_ROIS_INFERENCE": 50,
    "TRAIN_ROIS_PER_IMAGE": 16,
    "MAX_GT_INSTANCES": 20,
    "DETECTION_MAX_INSTANCES": 20,
}


class NucleusConfig(ApplicationSettings, Config):
    """Training of a Mask R-CNN on nuclei: settings of matterport's nucleus sample, and of the application."""

    model_kind = "mask_rcnn"

    # Background and nucleus.
    NUM_CLASSES = 2
    BACKBONE = "resnet50"

    IMAGES_PER_GPU = 6
    STEPS_PER_EPOCH = (_IMAGES - _VALIDATION_IMAGES) // IMAGES_PER_GPU
    VALIDATION_STEPS = max(1, _VALIDATION_IMAGES // IMAGES_PER_GPU)

    # Random 512 x 512 windows of images that are enlarged twice at least: nuclei are small.
    IMAGE_RESIZE_MODE = "crop"
    IMAGE_MIN_DIM = 512
    IMAGE_MAX_DIM = 512
    IMAGE_MIN_SCALE = 2.0
    # Mean of DSB2018's training images, RGB.
    MEAN_PIXEL = np.array([43.53, 39.56, 48.22])

    RPN_ANCHOR_SCALES = (8, 16, 32, 64, 128)
    # Nuclei stand close together, so training keeps proposals that overlap much.
    RPN_NMS_THRESHOLD = 0.9
    RPN_TRAIN_ANCHORS_PER_IMAGE = 64
    POST_NMS_ROIS_TRAINING = 1000
    POST_NMS_ROIS_INFERENCE = 2000
    TRAIN_ROIS_PER_IMAGE = 128
    USE_MINI_MASK = True
    MINI_MASK_SHAPE = (56, 56)
    MAX_GT_INSTANCES = 200
    DETECTION_MAX_INSTANCES = 400
    # With two classes the winner has more than 0.5 anyway.
    DETECTION_MIN_CONFIDENCE = 0

    # Key of labels.OVERLAP_RULES: who gets the pixels that several instances claim.
    OVERLAP_RULE = "score"
    # True: holes that lie inside a single nucleus are filled in the result, as U-Nets' are.
    FILL_HOLES = False
    # True: a training from COCO's weights takes those of the box head and the mask head too, all but the last layers,
    # whose shape goes with the number of classes. False: both heads begin with random weights.
    COCO_HEADS = True

    def validate(self) -> None:
        """Checks the settings; see `Config.validate`.

        Raises:
            ConfigError: A value is out of its range; the message names the attribute.
        """
        super().validate()
        self.require_choice("OVERLAP_RULE", OVERLAP_RULES)


class NucleusInferenceConfig(NucleusConfig):
    """Detection on whole images, one at a time, as in matterport's nucleus sample."""

    GPU_COUNT = 1
    IMAGES_PER_GPU = 1
    IMAGE_RESIZE_MODE = "pad64"
    RPN_NMS_THRESHOLD = 0.7

    def validate(self) -> None:
        """Checks the settings; see `NucleusConfig.validate`.

        Raises:
            ConfigError: A value is out of its range or makes sense in training only.
        """
        super().validate()
        if self.IMAGE_RESIZE_MODE == "crop":
            raise ConfigError("IMAGE_RESIZE_MODE 'crop' shows the model a random window: it is for training only.")


class MaskRCNNModel(InstanceModel, NetworkModel):
    """A Mask R-CNN that finds nuclei: a box for every nucleus, then its mask.

    Training and detection are two graphs with the same weights. Each is built when it is first needed, and the
    detection graph takes over the trained weights before it predicts.
    """

    kind = "mask_rcnn"
    summary = "Mask R-CNN: a box for every nucleus, then its mask"
    presets = PRESETS
    default_preset = "lineage"
    run_files = RUN_FILES
    shipped = "nucleus_mask_rcnn.h5"
    pretrained = ("coco", "imagenet")
    # Batch normalisation of random weights learns too.
    from_scratch = {"TRAIN_BN": None}

    config: NucleusConfig

    @classmethod
    def make_config(
        cls, mode: Literal["training", "inference"], preset: str, settings: Mapping[str, Any]
    ) -> NucleusConfig:
        """Returns a configuration; see `nucleus.models.registry.make_config`."""
        chosen = PRESETS[preset]
        if mode == "training":
            return NucleusConfig().update({**chosen.settings, **settings})
        return NucleusInferenceConfig().update({**inference_settings(chosen.settings), **chosen.inference, **settings})

    @classmethod
    def keeps_scale(cls, config: NucleusConfig) -> bool:
        """Returns True unless IMAGE_RESIZE_MODE brings images to one size; see `NetworkModel.keeps_scale`."""
        return config.IMAGE_RESIZE_MODE != "square"

    @classmethod
    def fine_tuning_settings(cls, config: NucleusConfig) -> dict[str, Any]:
        """Returns Adam in two stages, and batch normalisation with its stored statistics.

        See `NetworkModel.fine_tuning_settings`.
        """
        return {
            "STAGES": _FINE_TUNING,
            "OPTIMIZER": "Adam",
            "TRAIN_BN": False,
            "VALIDATION_STEPS": 0,
            "EVALUATE_EVERY": 0,
        }

    @classmethod
    def tiny_settings(cls, config: NucleusConfig) -> dict[str, Any]:
        """Returns one image of 128 x 128 pixels a batch, narrow heads and few RoIs; see the base class."""
        return {**_TINY, "BACKBONE": LEAST_DEEP} if config.BACKBONE in DEEP else dict(_TINY)

    @classmethod
    def describe_settings(cls, config: NucleusConfig) -> NetworkInWords:
        """Returns backbone, anchors, RoIs, image size, NMS and painting; see `NetworkModel.describe_settings`."""
        return NetworkInWords(
            f"{config.BACKBONE} with a feature pyramid, anchors {config.RPN_ANCHOR_SCALES}, "
            f"{config.RPN_TRAIN_ANCHORS_PER_IMAGE} of them and {config.TRAIN_ROIS_PER_IMAGE} RoIs train an image, RPN "
            f"NMS {config.RPN_NMS_THRESHOLD:g}",
            f"images {config.IMAGE_RESIZE_MODE}, {config.IMAGE_MIN_DIM} to {config.IMAGE_MAX_DIM} pixels",
            f"confidence from {config.DETECTION_MIN_CONFIDENCE:g}, NMS {config.DETECTION_NMS_THRESHOLD:g}, "
            f"{config.DETECTION_MAX_INSTANCES} instances at most, overlaps by {config.OVERLAP_RULE}",
        )

    def _begin(self, weights: str, path: Path | None) -> MaskRCNN:
        from mrcnn.weights import download_coco

        network = self._build("training", self.training_config)
        if weights == "coco":
            network.load_weights(download_coco(), by_name=True, exclude=self._not_from_coco(network))
        elif weights == "imagenet":
            network.load_weights(network.get_imagenet_weights(), by_name=True)
        elif path is not None:
            network.load_weights(path, by_name=weights != "last")
        return network

    def _not_from_coco(self, network: MaskRCNN) -> list[str]:
        """Returns the names of the layers that keep their random weights in a training from COCO's weights."""
        if self.training_config.COCO_HEADS:
            return _COCO_HEADS
        return [layer.name for layer in network.keras_model.layers if layer.name.startswith(_HEADS)]

    def _load(self, weights: str | os.PathLike) -> MaskRCNN:
        network = self._build("inference", self.config)
        network.load_weights(str(weights))
        return network

    def _build(self, mode: str, config: NucleusConfig) -> MaskRCNN:
        from mrcnn.model import MaskRCNN

        return MaskRCNN(mode, config, str(self.model_dir))

    def _trainer(self) -> Callable[..., dict[str, list[float]]]:
        if self.network.mode != "training":
            self._detector, trainer = self.network, self._build("training", self.training_config)
            trainer.copy_weights_from(self.network)
            trainer.continue_run_of(self.network)
            self.network = trainer
        return self.network.train_stages

    def detector(self) -> MaskRCNN:
        """Returns the detection network with the current weights."""
        if self.network.mode == "inference":
            return self.network
        if self._detector is None:
            self._detector = self.network.inference_twin(self.config)
        elif self._learned:
            self._detector.copy_weights_from(self.network)
        self._learned = False
        return self._detector

    def _find(self, images: Sequence[np.ndarray]) -> list[Instances]:
        return self.detector().detect_instances(images, _BATCH)
