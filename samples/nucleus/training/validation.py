"""Scores of the validation images while a model trains."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nucleus.datasets.dataset import NucleusDataset
from nucleus.evaluation.evaluation import evaluate
from nucleus.models.network import NetworkModel
from nucleus.models.scale import at_factor
from nucleus.models.tta import with_views

if TYPE_CHECKING:
    import keras

_WATCHED = ["mAP", "AP50", "AP75"]


def validation_callbacks(model: NetworkModel, val: NucleusDataset) -> list[keras.callbacks.Callback]:
    """Returns the callback that scores a model every EVALUATE_EVERY epochs, if its settings ask for that.

    The first evaluation is in the epoch EVALUATE_FROM.

    The scores join the logs (val_mAP, val_AP50, val_AP75), and the weights with the best mAP are kept as
    `<model>_<name>_best.h5` in the run's folder.

    Args:
        model: The model that trains.
        val: Prepared validation set with masks, without preprocessing.
    """
    from trainkit.callbacks import PeriodicEvaluation

    config = model.training_config
    if not config.EVALUATE_EVERY:
        return []
    # At the images' own size, as they are trained on: a network that has just begun says nothing about sizes.
    watched = at_factor(with_views(model), 1.0)

    def score() -> dict[str, float]:
        return evaluate(watched, val, progress=False)[_WATCHED].mean().to_dict()

    return [
        PeriodicEvaluation(
            score,
            every=config.EVALUATE_EVERY,
            best_path=model.best_path,
            monitor="mAP",
            first=config.EVALUATE_FROM or None,
        )
    ]
