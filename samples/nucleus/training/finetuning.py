"""Fine-tuning on a user's own images, with scores before and after on the images that are held out."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nucleus.datasets.dataset import NucleusDataset
from nucleus.datasets.division import DEFAULT_FOLDS, POOL, choose_folds, require_unseen
from nucleus.datasets.folds import FOLDS_FILE, Folds, find_folds
from nucleus.datasets.layouts.base import DatasetError
from nucleus.datasets.source import ImageSource
from nucleus.evaluation.evaluation import Evaluation, evaluate_fully
from nucleus.evaluation.report.tables import console_table
from nucleus.evaluation.report.writing import write_report
from nucleus.evaluation.saving import save_evaluations
from nucleus.models.base import NucleusModel
from nucleus.models.loading import load_model, resolve
from nucleus.models.network import NetworkModel
from nucleus.models.recipe import Recipe
from nucleus.models.registry import NETWORKS, SHIPPED_MODEL, last_checkpoint, make_config
from nucleus.models.scale import median_diameter, with_scale
from nucleus.models.weights import SHIPPED, WITHOUT_KERAS, is_shipped
from nucleus.prediction.predictions import KeptPredictions, ModelPredictions
from nucleus.quiet import import_keras
from nucleus.training.packing import pack

_log = logging.getLogger(__name__)

REPORT_FOLDER, RUNS_FOLDER = "report", "training"
BEFORE, AFTER = "before", "after"
# Fold that is held out, from 1 on.
_HELD_OUT = 1
# Training batches of an epoch: as many as there are images, within this range.
_LEAST_STEPS, _MOST_STEPS = 20, 100
# Most training images on which a U-Net's post-processing is tuned, and most pixels of all of them.
_TUNING_IMAGES, _TUNING_PIXELS = 20, 20_000_000


@dataclass(frozen=True)
class FineTuned:
    """A fine-tuned model with its scores on the images that were held out.

    Attributes:
        path: Weights file, with recipe and folds beside it; `load_model` and every `--weights` take it.
        model: The model of that file.
        before: Scores of the model that training began with, on the held-out images.
        after: Scores of the fine-tuned model on the same images.
        report: Page with tables, plots and pictures of both.
        learned: Ids of the images that were trained on.
        held_out: Ids of the images that were held out.
    """

    path: Path
    model: NucleusModel
    before: Evaluation
    after: Evaluation
    report: Path
    learned: tuple[str, ...]
    held_out: tuple[str, ...]

    def __str__(self) -> str:
        found = [int(each.summary.loc["all", "predicted"]) for each in (self.before, self.after)]
        mean_ap = [float(each.summary.loc["all", "mAP"]) for each in (self.before, self.after)]
        true = int(self.before.summary.loc["all", "true"])
        return (
            f"{console_table([self.before, self.after])}\n"
            f"On {len(self.held_out)} held-out images with {true} nuclei: mAP {mean_ap[0]:.3f} before, "
            f"{mean_ap[1]:.3f} after; {found[0]} nuclei found before, {found[1]} after."
        )


def finetune(
    dataset: ImageSource | str | os.PathLike,
    weights: str | os.PathLike = SHIPPED,
    output: str | os.PathLike = "results/nucleus/finetune",
    *,
    subset: str = POOL,
    folds: int | Path | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    steps: int | None = None,
    epochs: int | None = None,
) -> FineTuned:
    """Trains a trained model further on a user's own images, and scores it before and after on images held out.

    One of the folds of the images, which are stratified by modality, is held out. Nothing is chosen by it: the weights
    after the last step are kept, and the thresholds of a U-Net are tuned on images that were trained on, so that the
    score after is one of images that had no part in the model. Learning rate and schedule are those of
    `NetworkModel.fine_tuning_settings`, low enough to keep what the model knows.

    Args:
        dataset: Path of the images and their labels, in any layout that is detected; or an `ImageSource`, to choose the
            layout, modalities or channels.
        weights: Weights to begin with: "shipped" for those of the shipped U-Net, a weights file with its recipe, or the
            folder of a training run; see `nucleus.load_model`.
        output: Folder of the weights file (named after the data set), the report, the scores and the training run.
        subset: Images to divide into those to train on and those to hold out; see `nucleus.datasets.layouts.subsets`.
        folds: Number of folds, of which the first is held out, or a `folds.json`; by default four, or one for each
            image if there are fewer.
        seed: Seed of the division and of the training.
        settings: Attribute name -> value, on top of those of the weights and of fine-tuning.
        steps: Training batches of an epoch; by default the number of images to train on, at least 20 and at most 100.
        epochs: Number of epochs; by default that of the stages, six.

    Returns:
        The model, its file, and the scores before and after.

    Raises:
        ValueError: There are fewer than two images, an image or a setting cannot be used, the weights have no recipe or
            were trained on the images that are to be held out, or the folder holds a fine-tuned model already.
        TrainingDivergedError: The loss became infinite or NaN.
    """
    import_keras()
    source = dataset if isinstance(dataset, ImageSource) else ImageSource(Path(dataset))
    output = Path(output)
    packed = output / f"{_plain_name(source.path)}.h5"
    if packed.exists():
        raise ValueError(f"{packed}: already exists; choose another folder for the results (output).")
    path, found = _beginning(weights)
    division = _divide(source, subset, folds, seed, path)
    train, val = (source.load(subset, only=ids) for ids in division.split(division.held_out))
    print(f"Training on {train.num_images} images, holding out {val.num_images}")
    train.cache_labels()
    val.cache_labels()
    recipe = _recipe(found, train, {"SEED": seed, **(settings or {})}, steps)

    before = KeptPredictions(ModelPredictions(load_model(path), BEFORE, path))
    scores = [evaluate_fully(before, val)]
    network = _train(recipe, path, output / RUNS_FOLDER, division, train, val, epochs)
    checkpoint = last_checkpoint(output / RUNS_FOLDER, network.training_config.NAME, [recipe.model])
    tuning = source.load(subset, only=_tuning_images(train, network.training_config.SEED))
    pack(checkpoint, packed, recipe.with_settings(_thresholds(network, tuning)))
    model = load_model(packed)
    after = KeptPredictions(ModelPredictions(model, AFTER, packed))
    scores.append(evaluate_fully(after, val))

    save_evaluations(scores, output / "scores")
    description = f"{val.num_images} held-out images of {source.path}"
    report = write_report(output / REPORT_FOLDER, val, scores, [before, after], description)
    _warn_if_worse(*scores)
    learned, held_out = (tuple(sorted(ids)) for ids in division.split(division.held_out))
    return FineTuned(packed, model, *scores, report, learned, held_out)


def _beginning(weights: str | os.PathLike) -> tuple[Path, Recipe]:
    """Returns the weights file that a training begins with, and its recipe."""
    # The shipped default is no network that could be trained: its U-Net is.
    chosen = resolve(weights, model=SHIPPED_MODEL if weights == SHIPPED else None)
    if chosen.kind not in NETWORKS or chosen.recipe is None or chosen.path.suffix in WITHOUT_KERAS:
        raise ValueError(f"{weights}: cannot be fine-tuned; give the weights of a network (.h5) with their recipe.")
    return chosen.path, chosen.recipe


def _plain_name(path: Path) -> str:
    """Returns the name of the weights file: that of the data set, without the suffix of a file."""
    return path.resolve().name.partition(".")[0] or "finetuned"


def _divide(source: ImageSource, subset: str, folds: int | Path | None, seed: int, weights: Path) -> Folds:
    """Returns the folds with the one that is held out, which the weights must not have been trained on."""
    count = folds
    if folds is None:
        images = source.load(subset).num_images
        if images < 2:
            raise DatasetError(f"{source.path}: fine-tuning needs two images or more, of which one is held out.")
        count = min(DEFAULT_FOLDS, images)
    division = replace(choose_folds(source, subset, count, seed), held_out=_HELD_OUT)
    held_out = division.split(_HELD_OUT)[1]
    require_unseen(weights, held_out, "Begin with other weights, or choose the same seed and folds", "the {} held out")
    if find_folds(weights) is None and not is_shipped(weights):
        _log.warning(
            "%s: no list of the images that it was trained on is beside it. If held-out images are among them, the "
            "scores are too good",
            weights,
        )
    return division


def _recipe(found: Recipe, train: NucleusDataset, asked: Mapping[str, Any], steps: int | None) -> Recipe:
    """Returns the recipe of the training: the weights' own, with the settings of fine-tuning and the user's on top."""
    config = make_config("training", found.preset, found.settings, found.model)
    own = NETWORKS[found.model].fine_tuning_settings(config)
    own["STEPS_PER_EPOCH"] = steps or min(max(train.num_images, _LEAST_STEPS), _MOST_STEPS)
    if config.KNOWN_DIAMETERS:
        own["KNOWN_DIAMETERS"] = _widened(config.KNOWN_DIAMETERS, train)
    return found.with_settings({**own, **asked})


def _widened(known: Sequence[float], train: NucleusDataset) -> list[float]:
    """Returns the diameters that a model knows after training: also those of the images, which keep their size then.

    Otherwise images whose nuclei the weights did not know would be brought to the scale of those that they knew.
    """
    found = [median_diameter(train.load_labels(index)[0]) for index in train.image_ids]
    own = [diameter for diameter in found if diameter > 0]
    if not own:
        return list(known)
    return [round(float(value), 1) for value in (min(known[0], *own), np.median(own), max(known[2], *own))]


def _train(
    recipe: Recipe,
    weights: Path,
    folder: Path,
    division: Folds,
    train: NucleusDataset,
    val: NucleusDataset,
    epochs: int | None,
) -> NetworkModel:
    """Trains from the weights in a run of its own."""
    import keras

    network = NETWORKS[recipe.model].load(weights, recipe, model_dir=folder)
    keras.utils.set_random_seed(network.training_config.SEED)
    with network.hold_run():
        recipe.save(network.log_dir)
        division.save(Path(network.log_dir) / FOLDS_FILE)
        network.fit(train, val, epochs=epochs)
    return network


def _tuning_images(train: NucleusDataset, seed: int) -> set[str]:
    """Draws training images to tune on, which are held in memory as probabilities; returns their ids."""
    drawn, pixels = set(), 0
    for index in np.random.default_rng(seed).permutation(train.num_images)[:_TUNING_IMAGES]:
        height, width, _ = train.load_image(index).shape
        pixels += height * width
        if drawn and pixels > _TUNING_PIXELS:
            break
        drawn.add(train.image_info[index]["id"])
    return drawn


def _thresholds(network: NetworkModel, images: NucleusDataset) -> dict[str, Any]:
    """Returns the thresholds of a network that has some with the best mAP on images that were trained on; else none.

    A network that has seen other images is surer or less sure of its pixels than before: with nucleus_light on images
    with exchanged stains the mAP of held-out images rose from 0.226 to 0.241, and of 1,170 nuclei it found 1,212
    instead of 1,290.
    """
    if not network.tunable:
        return {}
    report = with_scale(network).tune(images)
    print("Best on training images:", *(f"--set {name}={value}" for name, value in report.best.items()))
    return dict(report.best)


def _warn_if_worse(before: Evaluation, after: Evaluation) -> None:
    first, second = (float(each.summary.loc["all", "mAP"]) for each in (before, after))
    if second < first:
        _log.warning(
            "The fine-tuned model is worse on the held-out images than the one it began with (mAP %.3f, before %.3f): "
            "keep that one, or check the labels and annotate more images",
            second,
            first,
        )
