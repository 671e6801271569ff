"""`MaskRCNN`, the model of the library's users: build, load weights, train, detect, look inside.

Method names and arguments are those of matterport's Mask_RCNN 2.1, whose `model` module also held the functions in
`__all__`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mrcnn import utils  # noqa: F401  old scripts say modellib.utils
from mrcnn.anchors import compute_backbone_shapes
from mrcnn.backbone import resnet_graph
from mrcnn.backbones import find_backbone
from mrcnn.config import RUN_FILES, Config
from mrcnn.data import DataGenerator, data_generator
from mrcnn.dataset import Dataset
from mrcnn.detector import Detector
from mrcnn.graph import build_inference_graph, build_training_graph
from mrcnn.ground_truth import load_image_gt
from mrcnn.image_meta import (
    compose_image_meta,
    mold_image,
    mold_inputs,
    parse_image_meta,
    parse_image_meta_graph,
    unmold_image,
)
from mrcnn.introspection import Introspection, log
from mrcnn.layers import BatchNorm
from mrcnn.results import Instances
from mrcnn.roi_heads.debug_targets import build_detection_targets, generate_random_rois
from mrcnn.rpn.targets import build_rpn_targets
from mrcnn.weights import download_imagenet, is_imagenet_file, load_imagenet
from trainkit.devices import building_on
from trainkit.fitting import fit, set_trainable
from trainkit.hdf5 import LoadReport
from trainkit.optimizers import make_optimizer
from trainkit.sample_checks import check_images
from trainkit.schedules import stage_cosine
from trainkit.stages import Stage, lay_out_stages, run_stages, warn_if_finished
from trainkit.trainee import Trainee

__all__ = [
    "BatchNorm",
    "DataGenerator",
    "MaskRCNN",
    "build_detection_targets",
    "build_rpn_targets",
    "compose_image_meta",
    "compute_backbone_shapes",
    "data_generator",
    "generate_random_rois",
    "load_image_gt",
    "log",
    "mold_image",
    "mold_inputs",
    "parse_image_meta",
    "parse_image_meta_graph",
    "resnet_graph",
    "unmold_image",
]

MODES = ("training", "inference")

logger = logging.getLogger(__name__)


class MaskRCNN(Introspection, Trainee):
    """Mask R-CNN with a feature pyramid (He et al. 2017).

    `load_weights` reads weights files of the lineage and of this project, and backbones trained on ImageNet: the
    ResNets of keras.applications, and the EfficientNet-Lite0 that is shipped.

        model = MaskRCNN("training", config, "logs")
        model.load_weights(model.get_imagenet_weights(), by_name=True)
        model.train_stages(train_dataset, val_dataset)

    Attributes:
        keras_model: Keras model of the training graph or of the inference graph, by mode.
        mode: "training" or "inference".
        config: Configuration.
        epoch: Finished epochs, also of the run that loaded weights come from.

    Args:
        mode: "training" or "inference".
        config: Configuration.
        model_dir: Folder in which every run gets its own.

    Raises:
        ValueError: The mode is unknown.
        ConfigError: The configuration cannot be built.

    Examples:
        >>> class CellConfig(Config):
        ...     NAME = "cells"
        ...     NUM_CLASSES = 2  # background and cell
        ...     GPU_COUNT = IMAGES_PER_GPU = 1
        ...     IMAGE_MIN_DIM = IMAGE_MAX_DIM = 64
        >>> model = MaskRCNN("inference", CellConfig(), "logs")
        >>> model.config.IMAGE_SHAPE.tolist(), model.epoch
        ([64, 64, 3], 0)
        >>> classifier = model.keras_model.get_layer("mrcnn_class_logits")
        >>> classifier.weights[0].shape[-1] == CellConfig.NUM_CLASSES
        True
    """

    run_files = RUN_FILES

    def __init__(self, mode: str, config: Config, model_dir: str | os.PathLike):
        if mode not in MODES:
            raise ValueError(f"mode must be one of {MODES}. Received: {mode!r}")
        config.validate()
        super().__init__(config, model_dir)
        self.mode = mode
        self.keras_model = self.build(mode, config)

    def build(self, mode: str, config: Config) -> keras.Model:
        """Builds the graph of a mode.

        Args:
            mode: "training" or "inference".
            config: Configuration.

        Returns:
            The Keras model of the graph.
        """
        if mode == "training":
            with building_on(config.GPU_COUNT):
                return build_training_graph(config)
        if config.GPU_COUNT > 1:
            logger.warning(
                "GPU_COUNT=%d: training uses several devices, detection one, with batches of GPU_COUNT times "
                "IMAGES_PER_GPU, %d images.",
                config.GPU_COUNT,
                config.BATCH_SIZE,
            )
        graph = build_inference_graph(config)
        self._detector = Detector(graph, config)
        return graph.model

    # ---- Weights -------------------------------------------------------------------------------------------

    def _read_weights(self, path: Path, by_name: bool, exclude: Sequence[str]) -> LoadReport:
        if path.is_file() and is_imagenet_file(path):
            return LoadReport(loaded=load_imagenet(self.keras_model, path, exclude))
        return super()._read_weights(path, by_name, exclude)

    def get_imagenet_weights(self) -> str:
        """Returns the file of the backbone's ImageNet weights: a shipped one, or one downloaded if missing.

        Raises:
            ValueError: There are no public weights for this backbone.
            DownloadError: The transfer failed; the message names the address and the place for the file.
        """
        return str(download_imagenet(self.config.BACKBONE))

    # ---- Training ------------------------------------------------------------------------------------------

    def set_trainable(
        self, layer_regex: str, keras_model: keras.Model | None = None, indent: int = 0, verbose: int = 1
    ) -> None:
        """Makes the layers trainable whose whole name matches, and freezes all others.

        Args:
            layer_regex: Regular expression over layer names, or "heads", "3+", "4+", "5+", "all".
            keras_model: Model whose layers are set; by default this one's.
            indent: Unused; part of the lineage's signature.
            verbose: 1 prints the names of the trainable layers.

        Raises:
            ValueError: No layer matches.
        """
        set_trainable(layer_regex, keras_model or self.keras_model, self._layer_sets, verbose)

    def compile(self, learning_rate: float, momentum: float) -> None:
        """Gives the training graph a fresh optimizer; `train` does this itself.

        Args:
            learning_rate: Learning rate, above 0.
            momentum: Momentum of SGD, 0 to 1.
        """
        config = self.config
        # TensorFlow's kernels for suppression and RoIAlign are not XLA's; JAX compiles everything anyway.
        compiled = "auto" if keras.backend.backend() == "jax" else False
        with building_on(config.GPU_COUNT):
            optimizer = make_optimizer(
                config.OPTIMIZER,
                learning_rate,
                momentum,
                config.GRADIENT_CLIP_NORM,
                weight_decay=config.WEIGHT_DECAY,
                average_momentum=config.AVERAGE_MOMENTUM,
            )
            self.keras_model.compile(optimizer=optimizer, jit_compile=compiled)

    def train(
        self,
        train_dataset: Dataset,
        val_dataset: Dataset,
        learning_rate: float,
        epochs: int,
        layers: str,
        augmentation: Any = None,
        custom_callbacks: Sequence[keras.callbacks.Callback] | None = None,
        no_augmentation_sources: Sequence[str] | None = None,
    ) -> keras.callbacks.History | None:
        """Trains until `epochs` epochs are done in total, earlier calls and the resumed run included.

        Every finished epoch leaves a checkpoint with the optimizer's state, a line in `training.csv` and an entry
        for TensorBoard in `log_dir`. With SCHEDULE "cosine" the call is a stage: the rate rises and falls within it,
        and a call that goes on from a checkpoint begins anew; `train_stages` goes on within a stage.

        Args:
            train_dataset: Prepared data set to learn from.
            val_dataset: Prepared data set for the validation losses; unused where VALIDATION_STEPS is 0.
            learning_rate: Learning rate, above 0.
            epochs: Total epochs after which to stop.
            layers: Trainable layers: "heads" (all but the backbone), "3+", "4+", "5+" (heads and the backbone from
                that stage on), "all", or a regular expression over layer names.
            augmentation: imgaug augmenter, applied to image and masks together.
            custom_callbacks: Keras callbacks. At the end of an epoch they are called after its checkpoint is written,
                which `find_last` names then, and before the logs are, so what they add to the logs is logged.
            no_augmentation_sources: Names of the data sets' sources whose images are not augmented.

        Returns:
            The history of `fit`, or None, after a warning, if nothing was left to do.

        Raises:
            ValueError: The model was built for inference, or no layer matches `layers`.
            TrainingDivergedError: The loss became infinite or NaN.
        """
        self._require("training")
        if warn_if_finished(self, epochs):
            return None
        stage = Stage(layers, epochs, learning_rate, begin=self.epoch)
        return self._train_stage(
            stage, train_dataset, val_dataset, augmentation, custom_callbacks, no_augmentation_sources
        )

    def _train_stage(
        self,
        stage: Stage,
        train_dataset: Dataset,
        val_dataset: Dataset,
        augmentation: Any,
        custom_callbacks: Sequence[keras.callbacks.Callback] | None,
        no_augmentation_sources: Sequence[str] | None = None,
    ) -> keras.callbacks.History:
        config = self.config
        names = set_trainable(stage.layers, self.keras_model, self._layer_sets)
        self.compile(stage.learning_rate, config.LEARNING_MOMENTUM)
        training = DataGenerator(
            train_dataset,
            config,
            augmentation=augmentation,
            seed=config.SEED,
            no_augmentation_sources=no_augmentation_sources,
        )
        validation = None
        if config.VALIDATION_STEPS:
            validation = DataGenerator(
                val_dataset, config, shuffle=False, seed=config.SEED, steps=config.VALIDATION_STEPS, workers=0
            )
        print(
            f"\nTraining {stage.layers} ({len(names)} layers) from epoch {self.epoch + 1} to {stage.until}, "
            f"learning rate {stage.learning_rate:g}"
        )
        layers = self._layer_sets.get(stage.layers, stage.layers)
        description = {"layers": layers, "learning_rate": float(stage.learning_rate)}
        callbacks = [*(custom_callbacks or ())]
        if config.SCHEDULE == "cosine":
            description["begin"] = stage.begin
            callbacks.insert(0, stage_cosine(stage, config.WARMUP_STEPS, config.STEPS_PER_EPOCH))
        return fit(
            self,
            training,
            validation,
            epochs=stage.until,
            stage=description,
            seed=config.SEED,
            callbacks=callbacks,
        )

    def train_stages(
        self,
        train_dataset: Dataset,
        val_dataset: Dataset,
        epochs: int | None = None,
        augmentation: Any = None,
        custom_callbacks: Sequence[keras.callbacks.Callback] | None = None,
    ) -> dict[str, list[float]]:
        """Trains through STAGES, one call of `train` each; epochs that a loaded checkpoint has behind it are skipped.

        Args:
            train_dataset: Prepared data set to learn from.
            val_dataset: Prepared data set for the validation losses; unused where VALIDATION_STEPS is 0.
            epochs: Total epochs instead of the sum of STAGES: later stages are dropped, the last one left is cut or
                prolonged.
            augmentation: imgaug augmenter, applied to image and masks together.
            custom_callbacks: Keras callbacks, called as in `train`.

        Returns:
            The logs by name, one value for each epoch of this call.

        Raises:
            ValueError: The model was built for inference, or no layer matches a stage.
            TrainingDivergedError: The loss became infinite or NaN.
        """

        self._require("training")
        stages = lay_out_stages(self.config.STAGES, self.config.LEARNING_RATE, epochs)
        return run_stages(self, stages, self._train_stage, train_dataset, val_dataset, augmentation, custom_callbacks)

    @property
    def _layer_sets(self) -> dict[str, str]:
        return find_backbone(self.config.BACKBONE).layer_sets()

    def inference_twin(self, config: Config) -> MaskRCNN:
        """Builds an inference model with this one's weights, to be updated with `copy_weights_from` during training.

        Args:
            config: Configuration for inference, of the same network.
        """
        twin = MaskRCNN("inference", config, self.model_dir)
        twin.copy_weights_from(self)
        return twin

    # ---- Detection -----------------------------------------------------------------------------------------

    def detect(self, images: Sequence[np.ndarray], verbose: int = 0) -> list[dict[str, np.ndarray]]:
        """Finds the objects in images.

        A warning is logged for every image in which DETECTION_MAX_INSTANCES objects were found: there may be more.

        Args:
            images: Any number of uint8 `[H, W, C]` images, RGB, of any sizes.
            verbose: 1 prints shapes and ranges of the inputs.

        Returns:
            One dict per image: `rois` int32 `[N, 4]` (y1, x1, y2, x2) in pixels, `class_ids` int32 `[N]`, `scores`
            float32 `[N]` descending, `masks` bool `[H, W, N]`.

        Raises:
            ValueError: The model was built for training, or an image has no pixels or the wrong channels.
        """
        if verbose:
            log(f"Processing {len(images)} images")
            for image in images:
                log("image", image)
        return self._as_dicts(self.detect_instances(images))

    def detect_instances(self, images: Sequence[np.ndarray], batch_size: int | None = None) -> list[Instances]:
        """Finds the objects in images as boxes with small masks, without masks of image size.

        Args:
            images: Any number of uint8 `[H, W, C]` images, RGB, of any sizes.
            batch_size: Largest number of images of one size in a batch; by default BATCH_SIZE.

        Returns:
            The objects of each image; `limit_reached` is True where there may be more, without a warning.
        """
        self._require("inference")
        return self._detector.detect(check_images(images, self.config.IMAGE_CHANNEL_COUNT), batch_size)

    def detect_molded(
        self, molded_images: np.ndarray, image_metas: np.ndarray, verbose: int = 0
    ) -> list[dict[str, np.ndarray]]:
        """Finds the objects in images that were resized (`load_image_gt`) and molded (`mold_image`) before.

        Args:
            molded_images: float32 `[B, H, W, C]`, the mean colour subtracted.
            image_metas: float32 `[B, 12 + classes]`, see `compose_image_meta`.
            verbose: 1 prints shapes and ranges of the inputs.

        Returns:
            One dict per image with the keys of `detect`, in pixels of the molded images.
        """
        self._require("inference")
        molded_images, image_metas = np.asarray(molded_images, np.float32), np.asarray(image_metas, np.float32)
        if verbose:
            log(f"Processing {len(molded_images)} images")
            log("molded_images", molded_images)
            log("image_metas", image_metas)
        shapes = [image.shape for image in molded_images]
        windows = [(0, 0, *shape[:2]) for shape in shapes]
        return self._as_dicts(self._detector.detect_molded(molded_images, image_metas, windows, shapes))

    def _as_dicts(self, found: Sequence[Instances]) -> list[dict[str, np.ndarray]]:
        for index, instances in enumerate(found):
            if instances.limit_reached:
                logger.warning(
                    "Image %d of %d: DETECTION_MAX_INSTANCES=%d objects were found, which is the limit. There "
                    "may be more: raise it, or detect in parts of the image.",
                    index + 1,
                    len(found),
                    self.config.DETECTION_MAX_INSTANCES,
                )
        return [_as_dict(instances) for instances in found]

    def _require(self, mode: str) -> None:
        if self.mode != mode:
            raise ValueError(f"This needs a model in {mode} mode: MaskRCNN(mode={mode!r}, …). Received: {self.mode!r}")


def _as_dict(found: Instances) -> dict[str, np.ndarray]:
    return {"rois": found.boxes, "class_ids": found.class_ids, "scores": found.scores, "masks": found.masks()}
