"""What the commands do: they choose model, configuration and data, call, and print.

What needs Keras is imported by the commands themselves, so that `--help` and a mistyped option answer at once.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mrcnn.config import BACKBONES
from nucleus.config import ApplicationSettings, NucleusConfig, NucleusUNetConfig, inference_settings, make_config
from nucleus.folds import FOLDS_FILE, Folds, make_folds, read_folds
from nucleus.models import DEFAULT_MODEL, MODELS, last_checkpoint
from nucleus.quiet import import_keras
from nucleus.weights import DOWNLOADABLE, Recipe, choose_recipe, existing_file, find_recipe, shipped_weights

DATASET_HELP = """\
The images of the 2018 Data Science Bowl are not downloaded by this command. Get stage1_train.zip (and stage1_test.zip)
  from https://www.kaggle.com/c/data-science-bowl-2018/data (an account is needed), or
  from https://bbbc.broadinstitute.org/BBBC038 (BBBC038v1, CC0, no account),
and unpack each into a folder of its name: datasets/nucleus/stage1_train/<ImageId>/{images,masks}/*.png"""


def train(args: argparse.Namespace) -> int:
    """Trains a model; see `nucleus train --help`."""
    import_keras()
    from nucleus import training
    from nucleus.inference import preprocessing

    weights = _training_weights(args)
    recipe = _training_recipe(args, weights)
    config = make_config("training", recipe.preset, recipe.settings, recipe.model)
    inference_config = _inference_config(recipe)

    folds = _folds(args, weights, config.SEED)
    train_images, val_images = _division(args, folds)
    train_dataset = _dataset(args, *train_images, preprocessing=preprocessing(config))
    val_dataset = _dataset(args, *val_images, preprocessing=preprocessing(config))
    train_dataset.cache_labels()
    val_dataset.cache_labels()

    config.display()
    model = training.start(config, args.logs, args.weights, weights)
    recipe.save(model.log_dir)
    if folds is not None:
        folds.save(Path(model.log_dir) / FOLDS_FILE)
    training.train(
        model,
        train_dataset,
        val_dataset,
        inference_config=inference_config,
        evaluation_dataset=_dataset(args, *val_images),
        epochs=args.epochs,
    )
    print(f"Trained {model.epoch} epochs: {model.log_dir}")
    return 0


def detect(args: argparse.Namespace) -> int:
    """Finds nuclei in images; see `nucleus detect --help`."""
    import_keras()
    from nucleus.detection import collect_images
    from nucleus.detection import detect as run_detection
    from nucleus.inference import load_model

    weights = _trained_weights(args)
    config = _inference_config(_recipe(args, weights), args.settings)
    failures: list[str] = []
    if args.images:
        dataset, failures = collect_images(args.images)
    else:
        dataset = _dataset(args, args.subset, require_masks=False, failures=failures)
    if dataset.num_images == 0:
        return _report_failures(failures)
    model = load_model(weights, config, args.logs)
    run = run_detection(model, dataset, args.output or _new_folder("detect"), args.label_format)
    run.failures[:0] = failures
    print(run)
    return _report_failures(run.failures)


def evaluate(args: argparse.Namespace) -> int:
    """Scores a model on images with masks; see `nucleus evaluate --help`."""
    from nucleus.evaluation import evaluate as score
    from nucleus.evaluation import evaluate_predictions, save_scores, summarise

    if args.predictions is not None:
        scores = evaluate_predictions(args.predictions, _dataset(args, args.subset))
    else:
        import_keras()
        from nucleus.inference import load_model

        weights = _trained_weights(args)
        config = _inference_config(_recipe(args, weights), args.settings)
        dataset = _dataset(args, args.subset)
        scores = score(load_model(weights, config, args.logs), dataset)
    output = args.output or _new_folder("evaluate")
    save_scores(scores, output)
    print(summarise(scores).to_string(float_format="{:.3f}".format))
    print(f"Scores: {output}")
    return 0


def tune(args: argparse.Namespace) -> int:
    """Searches the thresholds of a U-Net's post-processing; see `nucleus tune --help`."""
    import_keras()
    import pandas as pd

    from nucleus.inference import load_model
    from nucleus.tuning import parse_values, tune_postprocessing
    from trainkit.files import write_text

    weights = _trained_weights(args, "unet")
    config = _inference_config(_recipe(args, weights), args.settings)
    if config.model_kind != "unet":
        raise ValueError(f"{weights}: {config.model_kind} has no thresholds to tune; tune is for U-Nets.")
    grid = {name: parse_values(config, name, values) for name, values in args.grid}
    dataset = _dataset(args, args.subset)
    report = tune_postprocessing(load_model(weights, config, args.logs), dataset, grid, args.search)
    output = args.output or _new_folder("tune")
    write_text(output / "tuning.csv", pd.DataFrame(report.rows).to_csv(index=False, lineterminator="\n"))
    print(report.table(limit=10))
    print(f"{len(report.trials)} tried, * is what it began with; all: {output / 'tuning.csv'}")
    print("Best:", *(f"--set {name}={value}" for name, value in report.best.items()))
    return 0


def pack(args: argparse.Namespace) -> int:
    """Makes a small file of trained weights; see `nucleus pack --help`."""
    import_keras()
    from trainkit.hdf5 import repack_weights

    weights = _trained_weights(args)
    base = _recipe(args, weights)
    recipe = Recipe(base.preset, {**base.settings, **dict(args.settings)}, base.model)
    _inference_config(recipe)
    repack_weights(weights, args.output, dtype=None if args.full_precision else "float16")
    recipe.save_beside(args.output)
    print(f"{args.output}: {args.output.stat().st_size / 2**20:.1f} MB")
    return 0


def convert(args: argparse.Namespace) -> int:
    """Writes a data set as label images or as COCO JSON; see `nucleus convert --help`."""
    from nucleus.convert import convert as write

    dataset = _dataset(args, args.subset, fit=args.fit)
    write(dataset, args.to, args.output)
    print(f"{dataset.num_images} images: {args.output}")
    return 0


def download(args: argparse.Namespace) -> int:
    """Fetches pretrained weights, or says where the images are; see `nucleus download --help`."""
    from mrcnn.weights import download_coco
    from trainkit.imagenet import download_imagenet

    for what in args.what:
        if what == "dataset":
            print(DATASET_HELP)
        elif what == "coco":
            print(download_coco())
        else:
            for network in BACKBONES if what == "imagenet" else [what]:
                print(download_imagenet(network))
    return 0


def _dataset(
    args: argparse.Namespace,
    subset: str,
    only: Collection[str] | None = None,
    preprocessing=None,
    fit: int | None = None,
    **options: Any,
):
    from nucleus.dataset import DatasetError, NucleusDataset

    dataset = NucleusDataset(preprocessing=preprocessing, fit=fit)
    dataset.load_nucleus(args.dataset, subset, layout=args.layout, **options)
    if only is not None:
        missing = set(only) - {info["id"] for info in dataset.image_info}
        if missing:
            raise DatasetError(f"{args.dataset}: {min(missing)} is in the folds but not in the subset {subset}")
        dataset.image_info = [info for info in dataset.image_info if info["id"] in only]
    dataset.prepare()
    return dataset


def _folds(args: argparse.Namespace, weights: Path | None, seed: int) -> Folds | None:
    """Returns the folds that a training holds one out of, if it does; a resumed run goes on with its own."""
    own = None if weights is None or args.weights != "last" else weights.parent / FOLDS_FILE
    if args.fold is None:
        return read_folds(own) if own is not None and own.is_file() else None
    if isinstance(args.folds, Path):
        folds = read_folds(args.folds)
    else:
        infos = _dataset(args, _both_subsets(args)).image_info
        folds = make_folds({info["id"]: info["modality"] for info in infos}, args.folds, seed)
    return replace(folds, held_out=args.fold)


def _division(args: argparse.Namespace, folds: Folds | None) -> tuple[tuple, tuple]:
    """Returns the subset, and the ids in it where there are folds, of the images to train and to validate on."""
    if folds is None:
        return (args.subset,), (args.val_subset,)
    train_ids, val_ids = folds.split(folds.held_out)
    return (_both_subsets(args), train_ids), (_both_subsets(args), val_ids)


def _both_subsets(args: argparse.Namespace) -> str:
    return "+".join(dict.fromkeys([args.subset, args.val_subset]))


def _recipe(args: argparse.Namespace, weights: Path | None) -> Recipe:
    """Returns the configuration to start from: what --model and --preset ask for, else the weights' own."""
    return choose_recipe(find_recipe(weights) if weights is not None else None, args.model, args.preset)


def _training_recipe(args: argparse.Namespace, weights: Path | None) -> Recipe:
    """Returns the configuration of a training, --set and --steps included."""
    from nucleus.training import from_scratch_settings

    base = _recipe(args, weights)
    asked = dict(args.settings)
    if args.steps:
        asked["STEPS_PER_EPOCH"] = args.steps
    if args.weights == "none":
        asked = {**from_scratch_settings(make_config("training", base.preset, asked, base.model)), **asked}
    return Recipe(base.preset, {**base.settings, **asked}, base.model)


def _inference_config(recipe: Recipe, settings: Sequence[tuple[str, str]] = ()) -> NucleusConfig | NucleusUNetConfig:
    """Returns the configuration that detects with what a recipe trained; `settings` are those of this command."""
    changed = {**inference_settings(recipe.settings), **dict(settings)}
    return make_config("inference", recipe.preset, changed, recipe.model)


def _training_weights(args: argparse.Namespace) -> Path | None:
    """Returns the file that a training goes on from, if it does."""
    if args.weights in (*DOWNLOADABLE, "none"):
        return None
    return _last(args) if args.weights == "last" else existing_file(args.weights)


def _trained_weights(args: argparse.Namespace, default_model: str = DEFAULT_MODEL) -> Path:
    if args.weights is None:
        return shipped_weights(args.model or default_model)
    return _last(args) if args.weights == "last" else existing_file(args.weights)


def _last(args: argparse.Namespace) -> Path:
    name = dict(args.settings).get("NAME", ApplicationSettings.NAME)
    return last_checkpoint(args.logs, name, [args.model] if args.model else MODELS)


def _new_folder(command: str) -> Path:
    return Path("results", "nucleus", f"{command}_{time.strftime('%Y%m%dT%H%M%S')}")


def _report_failures(failures: Sequence[str]) -> int:
    """Lists the inputs that failed; returns the exit status."""
    for failure in failures:
        print(f"nucleus: error: {failure}", file=sys.stderr)
    return 1 if failures else 0
