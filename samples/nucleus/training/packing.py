"""Small weights files to share: half precision, without training state, with settings and folds beside them."""

from __future__ import annotations

import os
from pathlib import Path

from nucleus.datasets.folds import find_folds, folds_beside
from nucleus.models.recipe import Recipe
from nucleus.models.weights import find_recipe


def pack(
    weights: str | os.PathLike, output: str | os.PathLike, recipe: Recipe | None = None, full_precision: bool = False
) -> Path:
    """Writes trained weights as a small file, its recipe and, where the run held out a fold, its folds beside it.

    Args:
        weights: Weights file or checkpoint.
        output: File to write, ending in `.h5`.
        recipe: Model and settings to write beside it; by default those of the weights.
        full_precision: True to keep float32 instead of half precision.

    Returns:
        The file, which `load_model` and every `--weights` take.

    Raises:
        ValueError: There is no recipe, or the weights cannot be read.
        OSError: A file cannot be written.
    """
    from trainkit.hdf5 import repack_weights

    recipe = recipe or find_recipe(weights)
    if recipe is None:
        raise ValueError(f"{weights}: no recipe.json beside it names its network. Name it: recipe=Recipe(...)")
    output = Path(output)
    repack_weights(weights, output, dtype=None if full_precision else "float16")
    recipe.save_beside(output)
    folds = find_folds(weights)
    if folds is not None:
        folds.save(folds_beside(output))
    return output
