"""A training in a folder of its own that goes on where it was stopped, for commands that start many."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import keras

from nucleus.datasets.dataset import NucleusDataset
from nucleus.datasets.fingerprint import check_images, fingerprint, note_images
from nucleus.models.recipe import Recipe
from nucleus.models.registry import NETWORKS, last_checkpoint, make_config
from nucleus.models.weights import find_recipe
from nucleus.training.validation import validation_callbacks
from trainkit.files import atomic_path
from trainkit.runs import RunFiles
from trainkit.stages import lay_out_stages

# The copy's name is no checkpoint's: training counts its epochs from 0.
_BEGIN = "begin.h5"


class LastCheckpoints(keras.callbacks.Callback):
    """Deletes a run's checkpoints but the last two: those of hundreds of epochs would fill a disk.

    Args:
        folder: The run's.
        files: The names of its checkpoints.
    """

    def __init__(self, folder: str | Path, files: RunFiles):
        super().__init__()
        self._folder = Path(folder)
        self._files = files

    def on_epoch_end(self, epoch, logs=None):
        for path in self._folder.iterdir():
            run = self._files.run_of(path)
            if run is not None and run.epoch < epoch:
                path.unlink()


def train_or_resume(
    recipe: Recipe,
    weights: str,
    path: Path | None,
    folder: Path,
    train_dataset: NucleusDataset,
    val_dataset: NucleusDataset,
    epochs: int | None = None,
) -> Path:
    """Trains a model to the end of its stages, or what is left of that after an earlier call was stopped.

    The training's folder gets `images.json`, which tells the images from others, so that it goes on with the same.

    Args:
        recipe: Model and settings.
        weights: What to begin with; see `NetworkModel.begin`.
        path: The file of these weights, if they are in one. It is copied, so that a checkpoint of another run is not
            taken for one to go on from.
        folder: The run's alone; its checkpoints tell how far it is. The last two are kept.
        train_dataset: Prepared, with masks and without preprocessing, to learn from.
        val_dataset: Prepared likewise, for the validation losses, and scored every EVALUATE_EVERY epochs.
        epochs: Ends the training at this epoch instead; see `trainkit.stages.lay_out_stages`.

    Returns:
        The last checkpoint.

    Raises:
        ValueError: The folder holds a training with other settings or on other images, or an image or setting cannot
            be used.
        DownloadError: Published weights could not be fetched.
    """
    config = make_config("training", recipe.preset, recipe.settings, recipe.model)
    kind = NETWORKS[recipe.model]
    images = {"train": fingerprint(train_dataset.image_info), "val": fingerprint(val_dataset.image_info)}
    last = _last(folder, config.NAME, recipe, images)
    until = lay_out_stages(config.STAGES, config.LEARNING_RATE, epochs)[-1].until
    if last is None or kind.run_files.run_of(last).epoch < until:
        begin = ("last", last) if last else (weights, path and _copied(path, folder / _BEGIN))
        model = kind.begin(recipe, folder, *begin)
        recipe.save(model.log_dir)
        note_images(Path(model.log_dir), images)
        callbacks = [*validation_callbacks(model, val_dataset), LastCheckpoints(model.log_dir, kind.run_files)]
        model.fit(train_dataset, val_dataset, epochs=epochs, callbacks=callbacks)
        last = last_checkpoint(folder, config.NAME, [recipe.model])
    return last


def _copied(weights: Path, to: Path) -> Path:
    if not to.is_file():
        with atomic_path(to) as temporary:
            shutil.copyfile(weights, temporary)
    return to


def _last(folder: Path, name: str, recipe: Recipe, images: Mapping[str, str]) -> Path | None:
    """Returns the checkpoint to go on from, if there is one."""
    try:
        last = last_checkpoint(folder, name, [recipe.model])
    except FileNotFoundError:
        return None
    if _as_json(find_recipe(last)) != _as_json(recipe):
        raise ValueError(
            f"{last.parent}: holds a training with other settings (see recipe.json). Choose another output folder."
        )
    check_images(last.parent, images)
    return last


def _as_json(recipe: Recipe | None) -> str:
    return json.dumps(None if recipe is None else asdict(recipe), sort_keys=True)
