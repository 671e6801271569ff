"""Training in stages: what it begins with, which layers learn for how long, and the evaluation in between."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nucleus.augment import default_augmentation, strong_augmentation
from nucleus.config import ApplicationSettings, NucleusConfig, NucleusUNetConfig
from nucleus.dataset import NucleusDataset
from nucleus.evaluation import evaluate, summarise
from nucleus.inference import as_predictor
from nucleus.models import MODELS, ModelKind
from nucleus.weights import DOWNLOADABLE
from trainkit.callbacks import PeriodicEvaluation
from trainkit.imgaug_compat import iaa
from trainkit.stages import Stage, lay_out_stages

if TYPE_CHECKING:
    from mrcnn.model import MaskRCNN
    from unet.model import UNet

# Layers whose shape depends on the number of classes, 81 in COCO.
_COCO_HEADS = ["mrcnn_class_logits", "mrcnn_bbox_fc", "mrcnn_bbox", "mrcnn_mask"]


def stages(config: ApplicationSettings, epochs: int | None = None) -> list[Stage]:
    """Lays STAGES out on the count of epochs.

    Args:
        config: Settings STAGES and LEARNING_RATE.
        epochs: Ends the training at this epoch instead; see `lay_out_stages`.

    Returns:
        The stages in order.
    """
    return lay_out_stages(config.STAGES, config.LEARNING_RATE, epochs)


def from_scratch_settings(config: NucleusConfig | NucleusUNetConfig) -> dict[str, Any]:
    """Returns the settings that a training from random weights needs.

    Frozen layers of random weights teach the others nothing, and a batch normalisation whose statistics stay at
    their initial values learns nothing: so every stage trains all layers, batch normalisation included.

    Args:
        config: The training configuration otherwise used.
    """
    random = {"ENCODER_WEIGHTS": None} if config.model_kind == "unet" else {"TRAIN_BN": None}
    return {**random, "STAGES": tuple(("all", *stage[1:]) for stage in config.STAGES)}


def start(
    config: NucleusConfig | NucleusUNetConfig, model_dir: str | os.PathLike, weights: str, path: Path | None = None
) -> MaskRCNN | UNet:
    """Builds a model for training, with the weights that it begins with.

    Args:
        config: Training configuration; its SEED seeds Keras, NumPy and Python.
        model_dir: Folder in which every run gets its own.
        weights: "coco" or "imagenet" for published weights, downloaded if needed (of a U-Net, the encoder's); "none"
            for random ones, or what ENCODER_WEIGHTS says; anything else for those of `path`. What "last" begins with
            is complete; another file may lack layers, which keep their random weights then.
        path: Weights file; a checkpoint of a run is taken up.

    Raises:
        ValueError: There are no such weights for this model, or the file's do not fit.
        DownloadError: The weights could not be fetched.
    """
    import keras

    kind = MODELS[config.model_kind]
    if weights in DOWNLOADABLE and weights not in kind.pretrained:
        raise ValueError(f"A {config.model_kind} cannot begin with --weights={weights}, but {_choices(kind)}.")
    keras.utils.set_random_seed(config.SEED)
    if config.model_kind == "unet":
        from unet.model import UNet

        if weights != "none":
            config.update({"ENCODER_WEIGHTS": "imagenet" if weights == "imagenet" else None})
        model = UNet(config, model_dir)
    else:
        from mrcnn.model import MaskRCNN
        from mrcnn.weights import download_coco

        model = MaskRCNN(mode="training", config=config, model_dir=str(model_dir))
        if weights == "coco":
            model.load_weights(download_coco(), by_name=True, exclude=_COCO_HEADS)
        elif weights == "imagenet":
            model.load_weights(model.get_imagenet_weights(), by_name=True)
    if path is not None:
        model.load_weights(path, by_name=weights != "last")
    return model


def _choices(kind: ModelKind) -> str:
    return ", ".join((*kind.pretrained, "none", "last or a file"))


def make_augmentation(name: str, mirror: bool = False) -> iaa.Augmenter | None:
    """Returns the augmenter of a value of AUGMENTATION.

    Args:
        name: "lineage" (matterport's nucleus sample), "strong", "flips-rotations" (right angles; the MLP report),
            "flips-brightness" (Zhang, Wei and Yue, section 3.1), or "none".
        mirror: See `strong_augmentation`.

    Returns:
        An imgaug augmenter, or None for "none".
    """
    recipes = {
        "none": lambda: None,
        "lineage": default_augmentation,
        "strong": lambda: strong_augmentation(mirror),
        "flips-rotations": lambda: iaa.Sequential([iaa.Fliplr(0.5), iaa.Flipud(0.5), iaa.Rot90((0, 3))]),
        "flips-brightness": lambda: iaa.Sequential([iaa.Fliplr(0.5), iaa.Flipud(0.5), iaa.Multiply((0.8, 1.2))]),
    }
    return recipes[name]()


def train(
    model: MaskRCNN | UNet,
    train_dataset: NucleusDataset,
    val_dataset: NucleusDataset,
    *,
    inference_config: NucleusConfig | None = None,
    evaluation_dataset: NucleusDataset | None = None,
    epochs: int | None = None,
) -> None:
    """Trains a model through the stages of its configuration.

    Epochs that the model has behind it (`model.epoch`, after loading a checkpoint) are skipped, so a resumed run
    goes on in the stage where it stopped. Every EVALUATE_EVERY epochs the model is scored; the scores join the
    logs (val_mAP, val_AP50, val_AP75) and the best weights are kept as `<model>_<name>_best.h5`.

    Args:
        model: A `MaskRCNN` in training mode or a `UNet`, its weights loaded; see `start`.
        train_dataset: Prepared, preprocessing as in `nucleus.inference.preprocessing`.
        val_dataset: Prepared likewise, for the validation losses.
        inference_config: Configuration for the scoring of a Mask R-CNN.
        evaluation_dataset: Prepared, without preprocessing. Without it, or for a Mask R-CNN without the
            configuration, there is no scoring.
        epochs: See `stages`.

    Raises:
        ValueError: An image of a dataset cannot be used.
    """
    config = model.config
    is_unet = config.model_kind == "unet"
    augmentation = make_augmentation(config.AUGMENTATION, mirror=is_unet)
    callbacks = []
    if config.EVALUATE_EVERY and evaluation_dataset is not None and (is_unet or inference_config is not None):
        callbacks.append(_evaluation(model, inference_config, evaluation_dataset))
    if is_unet:
        model.train(train_dataset, val_dataset, epochs, augmentation, callbacks)
        return
    for stage in stages(config, epochs):
        if stage.until <= model.epoch:
            continue
        print(f"Training {stage.layers} until epoch {stage.until}, learning rate {stage.learning_rate:g}")
        model.train(
            train_dataset,
            val_dataset,
            learning_rate=stage.learning_rate,
            epochs=stage.until,
            layers=stage.layers,
            augmentation=augmentation,
            custom_callbacks=callbacks,
        )


def _evaluation(
    model: MaskRCNN | UNet, inference_config: NucleusConfig | None, dataset: NucleusDataset
) -> PeriodicEvaluation:
    # A Mask R-CNN in training is another graph than in detection; a U-Net is the same.
    twin = None if model.config.model_kind == "unet" else model.inference_twin(inference_config)
    predictor = as_predictor(model if twin is None else twin)

    def score() -> dict[str, float]:
        if twin is not None:
            twin.copy_weights_from(model)
        overall = summarise(evaluate(predictor, dataset, progress=False)).loc["all"]
        return {name: float(overall[name]) for name in ("mAP", "AP50", "AP75")}

    best = MODELS[model.config.model_kind].run_files.best_path(model.log_dir, model.config.NAME)
    return PeriodicEvaluation(score, every=model.config.EVALUATE_EVERY, best_path=best, monitor="mAP", mode="max")
