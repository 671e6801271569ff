"""Training in stages: what it begins with, which layers learn for how long, and the evaluation in between."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nucleus.datasets.dataset import NucleusDataset
from nucleus.evaluation.evaluation import evaluate
from nucleus.models.config import NucleusConfig, NucleusUNetConfig
from nucleus.models.inference import as_predictor
from nucleus.models.registry import MODELS
from nucleus.models.weights import DOWNLOADABLE
from trainkit.callbacks import PeriodicEvaluation

if TYPE_CHECKING:
    import keras

    from mrcnn.model import MaskRCNN
    from unet.model import UNet


def from_scratch_settings(
    config: NucleusConfig | NucleusUNetConfig, asked: Collection[str] = frozenset()
) -> dict[str, Any]:
    """Returns the settings that a training from random weights needs.

    Frozen layers of random weights teach the others nothing, and a batch normalisation whose statistics stay at
    their initial values learns nothing: so every stage trains all layers, batch normalisation included.

    Args:
        config: The training configuration otherwise used.
        asked: Names of settings that a user chose.

    Returns:
        The settings; none where the user names weights for a U-Net's encoder.
    """
    if "ENCODER_WEIGHTS" in asked and config.ENCODER_WEIGHTS is not None:
        return {}
    own = MODELS[config.model_kind].adapter().FROM_SCRATCH
    return {**own, "STAGES": tuple(("all", *stage[1:]) for stage in config.STAGES)}


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
        choices = ", ".join((*kind.pretrained, "none", "last or a file"))
        raise ValueError(f"A {config.model_kind} cannot begin with --weights={weights}, but {choices}.")
    keras.utils.set_random_seed(config.SEED)
    return kind.adapter().start(config, model_dir, weights, path)


def train(
    model: MaskRCNN | UNet,
    train_dataset: NucleusDataset,
    val_dataset: NucleusDataset,
    *,
    inference_config: NucleusConfig | NucleusUNetConfig | None = None,
    evaluation_dataset: NucleusDataset | None = None,
    epochs: int | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """Trains a model through the stages of its configuration.

    Epochs that the model has behind it (`model.epoch`, after loading a checkpoint) are skipped, so a resumed run
    goes on in the stage where it stopped. Every EVALUATE_EVERY epochs the model is scored; the scores join the
    logs (val_mAP, val_AP50, val_AP75) and the best weights are kept as `<model>_<name>_best.h5`.

    Args:
        model: A `MaskRCNN` in training mode or a `UNet`, its weights loaded; see `start`.
        train_dataset: Prepared, preprocessing as in `nucleus.models.inference.preprocessing`.
        val_dataset: Prepared likewise, for the validation losses.
        inference_config: Configuration of the model that is scored.
        evaluation_dataset: Prepared, without preprocessing. Without it, or without the configuration, there is no
            scoring.
        epochs: Ends the training at this epoch instead; see `trainkit.stages.lay_out_stages`.
        callbacks: More Keras callbacks, called before the logs and the checkpoint are written.

    Raises:
        ValueError: An image of a dataset cannot be used.
    """
    callbacks = list(callbacks)
    if model.config.EVALUATE_EVERY and evaluation_dataset is not None and inference_config is not None:
        callbacks.insert(0, _evaluation(model, inference_config, evaluation_dataset))
    MODELS[model.config.model_kind].adapter().train(model, train_dataset, val_dataset, epochs, callbacks)


def _evaluation(
    model: MaskRCNN | UNet, inference_config: NucleusConfig | NucleusUNetConfig, dataset: NucleusDataset
) -> PeriodicEvaluation:
    kind = MODELS[model.config.model_kind]
    scored, refresh = kind.adapter().scored(model, inference_config)
    predictor = as_predictor(scored)

    def score() -> dict[str, float]:
        refresh()
        return evaluate(predictor, dataset, progress=False)[["mAP", "AP50", "AP75"]].mean().to_dict()

    best = kind.run_files.best_path(model.log_dir, model.config.NAME)
    return PeriodicEvaluation(score, every=model.config.EVALUATE_EVERY, best_path=best, monitor="mAP", mode="max")
