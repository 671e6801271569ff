"""Resumable trainings in folders of their own, for commands that start many."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import keras

from nucleus.datasets.dataset import NucleusDataset
from nucleus.datasets.fingerprint import IMAGES_FILE, fingerprint
from nucleus.datasets.provenance import check_note, require_same, write_note
from nucleus.models.recipe import Recipe
from nucleus.models.registry import NETWORKS, last_checkpoint, make_config
from nucleus.models.weights import find_recipe
from nucleus.training.validation import validation_callbacks
from trainkit.files import atomic_path
from trainkit.runs import RunFiles
from trainkit.stages import lay_out_stages

# Not the name of a checkpoint, so that training counts its epochs from 0.
_BEGIN = "begin.h5"


class LastCheckpoints(keras.callbacks.Callback):
    """Deletes a run's checkpoints but the last two, since those of hundreds of epochs would fill a disk.

    Args:
        folder: The run's folder.
        files: Naming scheme of its checkpoints.
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
    """Trains a model to the end of its stages, or resumes an interrupted training.

    The training's folder gets `recipe.json` and `images.json`, by which a later call with other settings or images is
    refused.

    Args:
        recipe: Model and settings.
        weights: Initial weights; see `NetworkModel.begin`.
        path: File of the initial weights; None if they are not in a file. It is copied, so that a checkpoint of another
            run is not resumed.
        folder: Folder that no other run uses. Its last two checkpoints are kept.
        train_dataset: Prepared training set with masks, without preprocessing.
        val_dataset: Prepared data set with masks, without preprocessing, for the validation losses, and scored every
            EVALUATE_EVERY epochs.
        epochs: Last epoch; by default that of the last stage, see `trainkit.stages.lay_out_stages`.

    Returns:
        The last checkpoint.

    Raises:
        ProvenanceError: The folder holds a training with other settings or on other images.
        ValueError: An image or setting cannot be used.
        DownloadError: Published weights could not be fetched.
        LockedError: Another process trains in the folder; the message names it.
    """
    config = make_config("training", recipe.preset, recipe.settings, recipe.model)
    kind = NETWORKS[recipe.model]
    images = {"train": fingerprint(train_dataset.image_info), "val": fingerprint(val_dataset.image_info)}
    last = _last(folder, config.NAME, recipe, images)
    until = lay_out_stages(config.STAGES, config.LEARNING_RATE, epochs)[-1].until
    if last is None or kind.run_files.run_of(last).epoch < until:
        begin = ("last", last) if last else (weights, path and _copied(path, folder / _BEGIN))
        model = kind.begin(recipe, folder, *begin)
        with model.hold_run():
            recipe.save(model.log_dir)
            write_note(Path(model.log_dir) / IMAGES_FILE, images)
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
    """Returns the checkpoint to resume, if there is one."""
    try:
        last = last_checkpoint(folder, name, [recipe.model])
    except FileNotFoundError:
        return None
    noted = find_recipe(last)
    require_same(last.parent, "settings", None if noted is None else asdict(noted), asdict(recipe))
    check_note(last.parent / IMAGES_FILE, "images", images)
    return last
