"""Keras model that `fit` trains: the training graph with its losses."""

from __future__ import annotations

import os
from typing import Any, NoReturn

import keras
from keras import ops

from mrcnn import losses
from mrcnn.folding import fold_batch_norm
from mrcnn.image_meta import parse_image_meta_graph
from trainkit.devices import share_of_loss
from trainkit.legacy_model import LegacyModel

# Its losses follow from a configuration with functions, such as a callable BACKBONE, which no model file can hold.
_NOT_SAVED_WHOLE = (
    "A Mask R-CNN built for training cannot be saved as a whole model. Save its weights (save_weights), load them into "
    'MaskRCNN("inference", config, model_dir), and save the keras_model of that.'
)
LOSS_NAMES = ("rpn_class_loss", "rpn_bbox_loss", "mrcnn_class_loss", "mrcnn_bbox_loss", "mrcnn_mask_loss")


class TrainingModel(LegacyModel):
    """Training graph with the five losses of `mrcnn.losses`, weighted and logged, and weight decay.

    Args:
        config: Uses LOSS_WEIGHTS, OPTIMIZER, WEIGHT_DECAY and WEIGHT_DECAY_REDUCTION.
        inputs: Keras inputs by name.
        outputs: Symbolic tensors of the training graph by name.
    """

    def __init__(self, config: Any, inputs: dict[str, Any], outputs: dict[str, Any]):
        super().__init__(inputs=inputs, outputs=outputs, name="mask_rcnn")
        self.settings = config
        folded = fold_batch_norm(self, training=True)
        # Behind a function, so that the second set of layers is not taken for this model's.
        self._run = lambda inputs, training: folded(inputs, training=training)
        self.loss_means = [keras.metrics.Mean(name=name) for name in LOSS_NAMES]

    def call(self, inputs, training=None, mask=None):
        return self._run(inputs, training) if training else super().call(inputs, training=training, mask=mask)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # On several devices TensorFlow would average the parts of the first batch, which has masks of booleans, to
        # learn shapes that this model knows. What is left to build is the optimizer.
        if self.distribute_strategy.num_replicas_in_sync > 1 and self.optimizer and not self.optimizer.built:
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)

    def save(self, filepath: str | os.PathLike, *args: Any, **options: Any) -> NoReturn:
        """Refuses to save the training graph as a whole, before anything is written.

        Raises:
            NotImplementedError: Always; the message says what can be saved.
        """
        raise NotImplementedError(f"{filepath}: {_NOT_SAVED_WHOLE}")

    def get_config(self) -> NoReturn:
        """Refuses to describe the training graph, for instance for `keras.saving.save_model`.

        Raises:
            NotImplementedError: Always; the message says what can be saved.
        """
        raise NotImplementedError(_NOT_SAVED_WHOLE)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Computes the weighted sum of the losses plus weight decay, and logs each loss."""
        values = self.component_losses(y_pred)
        for mean, name in zip(self.loss_means, LOSS_NAMES, strict=True):
            mean.update_state(values[name])
        weights = self.settings.LOSS_WEIGHTS
        total = sum(weights.get(name, 1.0) * values[name] for name in LOSS_NAMES)
        return share_of_loss(total + self.weight_decay())

    def component_losses(self, y_pred: dict[str, Any]) -> dict[str, Any]:
        """Computes the five losses, float32 scalars by name.

        Args:
            y_pred: Outputs of the training graph by name.
        """
        active = parse_image_meta_graph(y_pred["image_meta"])["active_class_ids"]
        class_ids = y_pred["target_class_ids"]
        positive_ids = class_ids[:, : y_pred["target_mask"].shape[1]]
        match, rpn_bbox = y_pred["rpn_sample"], y_pred["rpn_sample_bbox"]
        return {
            "rpn_class_loss": losses.rpn_class_loss_graph(match, y_pred["rpn_sample_class_logits"]),
            "rpn_bbox_loss": losses.rpn_bbox_loss_graph(self.settings, y_pred["target_rpn_bbox"], match, rpn_bbox),
            "mrcnn_class_loss": losses.mrcnn_class_loss_graph(class_ids, y_pred["mrcnn_class_logits"], active),
            "mrcnn_bbox_loss": losses.mrcnn_bbox_loss_graph(y_pred["target_bbox"], class_ids, y_pred["mrcnn_bbox"]),
            "mrcnn_mask_loss": losses.mrcnn_mask_loss_graph(y_pred["target_mask"], positive_ids, y_pred["mrcnn_mask"]),
        }

    def weight_decay(self) -> Any:
        """Computes the L2 penalty of all trainable weights but those of batch norm, a scalar.

        Each weight's sum of squares is divided by its number of elements, as in the lineage, unless
        WEIGHT_DECAY_REDUCTION is "sum". It is 0 with AdamW, which takes the decay off the weights itself.
        """
        factor = 0.0 if self.settings.OPTIMIZER == "AdamW" else self.settings.WEIGHT_DECAY
        reduce = ops.mean if self.settings.WEIGHT_DECAY_REDUCTION == "mean" else ops.sum
        terms = [
            reduce(ops.square(ops.cast(weight, "float32")))
            for weight in self.trainable_variables
            if weight.path.rsplit("/", 1)[-1] not in ("gamma", "beta")
        ]
        return factor * sum(terms) if factor and terms else 0.0
