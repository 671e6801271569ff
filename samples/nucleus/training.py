"""Fine-tuning in stages: which layers, for how many epochs, at which rate, and the evaluation in between."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nucleus.augment import default_augmentation, strong_augmentation
from nucleus.config import NucleusConfig
from nucleus.dataset import NucleusDataset
from nucleus.evaluation import evaluate, summarise
from nucleus.inference import MaskRCNNPredictor
from trainkit.callbacks import PeriodicEvaluation
from trainkit.imgaug_compat import iaa

if TYPE_CHECKING:
    from mrcnn.model import MaskRCNN


class Stage(NamedTuple):
    """One stage of a training.

    Attributes:
        layers: What `MaskRCNN.train` takes: heads, 3+, 4+, 5+, all or a regular expression.
        until: Epochs of the whole training at the stage's end.
        learning_rate: Of this stage.
    """

    layers: str
    until: int
    learning_rate: float


def stages(config: NucleusConfig, epochs: int | None = None) -> list[Stage]:
    """Lays out STAGES on the count of epochs.

    Args:
        config: Settings STAGES and LEARNING_RATE.
        epochs: Ends the training at this epoch instead: stages behind it fall away, and the last one is
            prolonged where STAGES ends earlier.

    Returns:
        The stages in order.
    """
    laid, done = [], 0
    for layers, count, *rate in config.STAGES:
        done += count
        laid.append(Stage(layers, done, rate[0] if rate else config.LEARNING_RATE))
    if epochs is None:
        return laid
    kept = [stage for before, stage in zip([0, *(s.until for s in laid)], laid, strict=False) if before < epochs]
    kept[-1] = kept[-1]._replace(until=epochs)
    return kept


def from_scratch_settings(config: NucleusConfig) -> dict[str, Any]:
    """Returns the settings that a training from random weights needs.

    Frozen layers of random weights teach the heads nothing, and a batch normalisation whose statistics stay at
    their initial values learns nothing: so every stage trains all layers, batch normalisation included.

    Args:
        config: The training configuration otherwise used.
    """
    return {"TRAIN_BN": None, "STAGES": tuple(("all", *stage[1:]) for stage in config.STAGES)}


def make_augmentation(name: str) -> iaa.Augmenter | None:
    """Returns the augmenter of a value of AUGMENTATION.

    Args:
        name: "lineage" (matterport's nucleus sample), "strong", "flips-rotations" (right angles; the MLP report),
            "flips-brightness" (Zhang, Wei and Yue, section 3.1), or "none".

    Returns:
        An imgaug augmenter, or None for "none".
    """
    recipes = {
        "none": lambda: None,
        "lineage": default_augmentation,
        "strong": strong_augmentation,
        "flips-rotations": lambda: iaa.Sequential([iaa.Fliplr(0.5), iaa.Flipud(0.5), iaa.Rot90((0, 3))]),
        "flips-brightness": lambda: iaa.Sequential([iaa.Fliplr(0.5), iaa.Flipud(0.5), iaa.Multiply((0.8, 1.2))]),
    }
    return recipes[name]()


def train(
    model: MaskRCNN,
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
    logs (val_mAP, val_AP50, val_AP75) and the best weights are kept as `mask_rcnn_<name>_best.h5`.

    Args:
        model: A `MaskRCNN` in training mode, its weights loaded.
        train_dataset: Prepared, preprocessing as in `nucleus.inference.preprocessing`.
        val_dataset: Prepared likewise, for the validation losses.
        inference_config: Configuration for the scoring.
        evaluation_dataset: Prepared, without preprocessing. Scoring needs both; without them there is none.
        epochs: See `stages`.

    Raises:
        ValueError: An image of a dataset cannot be used.
    """
    config = model.config
    callbacks = []
    if config.EVALUATE_EVERY and inference_config is not None and evaluation_dataset is not None:
        callbacks.append(_evaluation(model, inference_config, evaluation_dataset))
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
            augmentation=make_augmentation(config.AUGMENTATION),
            custom_callbacks=callbacks,
        )


def _evaluation(model: MaskRCNN, inference_config: NucleusConfig, dataset: NucleusDataset) -> PeriodicEvaluation:
    twin = model.inference_twin(inference_config)
    predictor = MaskRCNNPredictor(twin)

    def score() -> dict[str, float]:
        twin.copy_weights_from(model)
        overall = summarise(evaluate(predictor, dataset, progress=False)).loc["all"]
        return {name: float(overall[name]) for name in ("mAP", "AP50", "AP75")}

    best = Path(model.log_dir) / f"mask_rcnn_{model.config.NAME.lower()}_best.h5"
    return PeriodicEvaluation(score, every=model.config.EVALUATE_EVERY, best_path=best, monitor="mAP", mode="max")
