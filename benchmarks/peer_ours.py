"""Tasks of this project for `peers.py`: Mask R-CNN with the settings of its peer, and the default model."""

from __future__ import annotations

import tempfile
from typing import Any

import keras
import numpy as np
from detection import OBJECT_BIAS, BiasedModel
from peer_loop import Task, serve

from mrcnn.data import DataGenerator
from mrcnn.model import MaskRCNN
from nucleus import load_model, make_config
from nucleus.datasets.dataset import NucleusDataset
from nucleus.models.loading import resolve

_PRECISIONS = {False: "float32", True: "mixed_bfloat16"}


def settings_of(job: dict[str, Any], bfloat16: bool) -> dict[str, Any]:
    """Returns the settings that the job and the lineage's names of them have in common."""
    return {
        "IMAGE_MIN_DIM": job["size"],
        "IMAGE_MAX_DIM": job["size"],
        "PRE_NMS_LIMIT": job["pre_nms"],
        "POST_NMS_ROIS_TRAINING": job["training_proposals"],
        "POST_NMS_ROIS_INFERENCE": job["proposals"],
        "RPN_TRAIN_ANCHORS_PER_IMAGE": job["training_anchors"],
        "TRAIN_ROIS_PER_IMAGE": job["training_rois"],
        "DETECTION_MAX_INSTANCES": job["detections"],
        "DETECTION_NMS_THRESHOLD": job["nms_threshold"],
        "PRECISION": _PRECISIONS[bfloat16],
    }


def detect(job: dict[str, Any], bfloat16: bool) -> Task:
    """Returns the detection of the first image, with its masks at full size, and every proposal an object."""
    settings = {**settings_of(job, bfloat16), "IMAGE_RESIZE_MODE": "square", "IMAGE_MIN_SCALE": 0}
    keras.utils.set_random_seed(0)
    model = MaskRCNN("inference", make_config("inference", "lineage", settings), model_dir=tempfile.gettempdir())
    BiasedModel(model).shift(OBJECT_BIAS)
    image = np.load(job["images"])["images"][0]
    return lambda: model.detect([image])[0]["masks"].shape[-1]


def step(job: dict[str, Any], bfloat16: bool) -> Task:
    """Returns a training step of all layers on a batch of images, loaded before."""
    settings = {**settings_of(job, bfloat16), "IMAGES_PER_GPU": job["batch"], "IMAGE_RESIZE_MODE": "square"}
    config = make_config("training", "lineage", settings)
    keras.utils.set_random_seed(0)
    model = MaskRCNN("training", config, model_dir=tempfile.gettempdir())
    model.set_trainable("all", verbose=0)
    model.compile(1e-4, 0.9)
    dataset = NucleusDataset()
    dataset.load_nucleus(job["dataset"], job["subset"])
    dataset.prepare()
    batch = DataGenerator(dataset, config, seed=0, steps=1, workers=0).batch(0, 0)

    def run() -> int:
        float(model.keras_model.train_on_batch(batch)[0])
        return 0

    return run


def predict(job: dict[str, Any]) -> Task:
    """Returns the prediction of all images at their own sizes by the default model, as `nucleus detect` runs it."""
    model = load_model(resolve(None).fastest().path)
    with np.load(job["originals"]) as arrays:
        images = [arrays[name] for name in arrays.files]
    return lambda: sum(len(found.scores) for found in model.predict(images))


if __name__ == "__main__":
    serve(
        {
            "detect_float32": lambda job: detect(job, False),
            "detect_bfloat16": lambda job: detect(job, True),
            "step_float32": lambda job: step(job, False),
            "step_bfloat16": lambda job: step(job, True),
            "default": predict,
        },
        ("keras", keras.backend.backend(), "numpy"),
    )
