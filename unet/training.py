"""Training a `UNet` through the stages of its configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras

from trainkit import fitting
from trainkit.schedules import WarmupCosine
from trainkit.stages import Stage, lay_out_stages
from unet.architecture import DECODER_LAYERS
from unet.config import UNetConfig
from unet.data import Dataset, TrainingBatches, ValidationBatches
from unet.losses import make_loss
from unet.metrics import ChannelIoU

if TYPE_CHECKING:
    from unet.model import UNet

# Named sets of layers as regular expressions over their names.
LAYER_REGEX = {"decoder": DECODER_LAYERS, "all": ".*"}
# What L2 applies to: the kernels of convolutions, not biases or batch normalisation.
_DECAYED = ("kernel", "depthwise_kernel", "pointwise_kernel")


def compile_model(model: UNet, learning_rate: float) -> None:
    """Gives a model a fresh optimizer, its loss, and the IoU of every channel to log."""
    config = model.config
    decoupled = config.OPTIMIZER == "AdamW"
    _set_weight_decay(model.keras_model, 0.0 if decoupled else config.WEIGHT_DECAY)
    optimizer = fitting.make_optimizer(
        config.OPTIMIZER,
        learning_rate,
        config.LEARNING_MOMENTUM,
        config.GRADIENT_CLIP_NORM,
        weight_decay=config.WEIGHT_DECAY,
        average_momentum=config.AVERAGE_MOMENTUM,
    )
    if config.PRECISION == "mixed_float16":
        # Small gradients would be 0 in float16; Keras adds this itself only to models that it knows to be of that kind.
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.keras_model.compile(
        optimizer=optimizer,
        loss=make_loss(config),
        metrics=[ChannelIoU(index, name=f"iou_{name}") for index, name in enumerate(config.channels)],
    )


def train(
    model: UNet,
    train_dataset: Dataset,
    val_dataset: Dataset,
    epochs: int | None = None,
    augmentation: Any = None,
    custom_callbacks: Sequence[keras.callbacks.Callback] | None = None,
) -> dict[str, list[float]]:
    """Trains through the stages; see `UNet.train`."""
    config = model.config
    history: dict[str, list[float]] = {}
    for stage in lay_out_stages(config.STAGES, config.LEARNING_RATE, epochs):
        if stage.until <= model.epoch:
            continue
        training = TrainingBatches(train_dataset, config, augmentation)
        validation = ValidationBatches(val_dataset, config) if config.VALIDATION_STEPS else None
        for name, values in _train_stage(model, stage, training, validation, custom_callbacks or ()).history.items():
            history.setdefault(name, []).extend(values)
    return history


def _train_stage(
    model: UNet,
    stage: Stage,
    training: TrainingBatches,
    validation: ValidationBatches | None,
    callbacks: Sequence[keras.callbacks.Callback],
) -> keras.callbacks.History:
    config = model.config
    learning = fitting.set_trainable(stage.layers, model.keras_model, LAYER_REGEX)
    compile_model(model, stage.learning_rate)
    print(
        f"\nTraining {stage.layers} ({len(learning)} layers) from epoch {model.epoch + 1} to {stage.until}, "
        f"learning rate {stage.learning_rate:g}"
    )
    return fitting.fit(
        model,
        training,
        validation,
        epochs=stage.until,
        stage={"layers": stage.layers, "learning_rate": float(stage.learning_rate), "begin": stage.begin},
        seed=config.SEED,
        callbacks=[_schedule(config, stage), *callbacks],
    )


def _schedule(config: UNetConfig, stage: Stage) -> keras.callbacks.Callback:
    if config.SCHEDULE == "cosine":
        total = (stage.until - stage.begin) * config.STEPS_PER_EPOCH
        warmup = min(config.WARMUP_STEPS, total - 1)
        return WarmupCosine(stage.learning_rate, total, warmup, config.STEPS_PER_EPOCH, stage.begin)
    return keras.callbacks.LearningRateScheduler(
        lambda epoch, _: stage.decayed_rate(epoch, config.LEARNING_RATE_DECAY, config.DECAY_EPOCHS)
    )


def _set_weight_decay(model: keras.Model, factor: float) -> None:
    """Adds `factor` times the sum of squares of every kernel that learns to the loss."""
    for weight in model.weights:
        if weight.name in _DECAYED:
            weight.regularizer = keras.regularizers.L2(factor) if factor else None
