"""Models of a cross-validation for a fusion's fit: each image is looked at by the two that were not trained on it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from nucleus.datasets.folds import find_folds
from nucleus.datasets.layouts.base import DatasetError
from nucleus.models.base import NucleusModel
from nucleus.models.loading import load_model


def models_out_of_fold(
    pairs: Sequence[tuple[Path, Path]], ids: Collection[str]
) -> dict[str, tuple[NucleusModel, NucleusModel]]:
    """Returns for each image the two models of a cross-validation that held it out.

    Args:
        pairs: Weights of the model that finds objects and of the one that rates pixels, of each fold, with their runs'
            `folds.json`.
        ids: Ids of the images.

    Raises:
        DatasetError: Weights have no folds, the two of a pair held out different images, or an image was held out by
            none of them.
        ValueError: Weights cannot be loaded.
    """
    held_out = [_held_out(*pair) for pair in pairs]
    number_of = {name: number for number, names in enumerate(held_out) for name in names}
    missing = sorted(set(ids) - set(number_of))
    if missing:
        raise DatasetError(
            f"{len(missing)} of these {len(ids)} images were held out by none of the {len(pairs)} pairs of weights, "
            f"such as {missing[0]}: name the weights of every fold"
        )
    models = {number: tuple(map(load_model, pairs[number])) for number in {number_of[name] for name in ids}}
    return {name: models[number_of[name]] for name in ids}


def _held_out(objects: Path, pixels: Path) -> set[str]:
    """Returns the ids that both runs of a pair held out."""
    names = []
    for path in (objects, pixels):
        folds = find_folds(path)
        if folds is None or folds.held_out is None:
            raise DatasetError(f"{path}: its run held out no fold (nucleus train --fold)")
        names.append(folds.split(folds.held_out)[1])
    if names[0] != names[1]:
        raise DatasetError(f"{objects} and {pixels} held out different images: train both with the same folds.json")
    return names[0]
