"""`nucleus ensemble fit`, `nucleus ensemble predict` and, from `nucleus.commands.fuse`, `nucleus ensemble fuse`."""

from __future__ import annotations

import argparse
import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nucleus.commands import fuse, options, values
from nucleus.commands.arguments import chosen_planes, image_source, output_folder, report_failures
from nucleus.datasets.division import choose_folds
from nucleus.models.weights import SHIPPED, WeightsNotFoundError, existing_file
from nucleus.prediction.writers import default_formats, require_packages
from nucleus.quiet import import_keras

if TYPE_CHECKING:
    from nucleus.ensemble.members import Members

_log = logging.getLogger(__name__)

SUMMARY = "combine the nuclei that several models found"
_FIT = "learn from images with masks how good each model's nuclei are"
_PREDICT = "find nuclei with a fitted ensemble, write what detect writes"


def add_options(command: argparse.ArgumentParser) -> None:
    """Adds the three commands with their options."""
    subparsers = command.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_fit(_add_command(subparsers, "fit", _FIT, _fit))
    _add_predict(_add_command(subparsers, "predict", _PREDICT, _predict))
    fuse.add_options(_add_command(subparsers, "fuse", fuse.SUMMARY, fuse.run))


def _add_fit(fit: argparse.ArgumentParser) -> None:
    _add_images(fit)
    fit.add_argument(
        "--subset",
        default="val",
        help="images with masks to fit it to, which no member was trained on (default: %(default)s)",
    )
    _add_members(fit)
    fit.add_argument("--output", type=Path, required=True, metavar="FILE.json", help="the file to write")
    fit.add_argument(
        "--folds",
        type=values.folds,
        default=4,
        metavar="{N,FILE}",
        help="folds of images for the reported scores and for the threshold: their number, stratified by modality, "
        "or the folds.json of a training run (default: %(default)s)",
    )
    fit.add_argument(
        "--features",
        metavar="GROUP,…",
        help="groups of features to learn from: shape,member,score,intensity,neighbours,agreement (default: all)",
    )
    fit.add_argument(
        "--threshold", type=values.part, help="minimum predicted IoU of a nucleus (default: the one with the best mAP)"
    )
    fit.add_argument(
        "--nms-threshold",
        type=values.part,
        help="IoU above which the worse of two models' nuclei is dropped (default: 0.3)",
    )
    fit.add_argument(
        "--least-visible",
        type=values.part,
        help="fraction of a nucleus that better ones must leave uncovered to keep it (default: 0.5; 0 keeps any rest)",
    )
    fit.add_argument("--seed", type=int, default=0, help="seed of folds and trees (default: 0)")
    fit.add_argument("--threads", type=values.positive, default=1, help="threads for fitting trees (default: 1)")
    fit.add_argument(
        "--predictions",
        type=Path,
        metavar="FOLDER",
        help="write the nuclei of these images too, as detect does, each by an ensemble that has not seen its fold",
    )
    options.add_overwrite(fit)
    options.add_cluster(fit)


def _add_predict(predict: argparse.ArgumentParser) -> None:
    _add_images(predict)
    options.add_image_files(predict)
    options.add_recursive(predict)
    predict.add_argument(
        "--subset", default="stage1_test", help="without IMAGE: images of the dataset (default: %(default)s)"
    )
    _add_members(predict)
    predict.add_argument(
        "--ensemble", type=Path, required=True, metavar="FILE.json", help="file that `nucleus ensemble fit` wrote"
    )
    options.add_output(predict, "folder of the results")
    options.add_overwrite(predict)
    options.add_cluster(predict)


def _add_images(command: argparse.ArgumentParser) -> None:
    options.add_dataset(command)
    options.add_pixel_size(command)


def run(args: argparse.Namespace) -> int:
    """Fits an ensemble or a fusion, or predicts with an ensemble; see `nucleus ensemble --help`."""
    return args.step(args)


def _chosen_members(args: argparse.Namespace) -> Members:
    if any(path.is_file() for _, path in args.members):
        import_keras()
    from nucleus.ensemble.members import Members

    members = Members.of(args.members, dict(args.settings))
    if not members.run and (args.workers or args.scheduler) and args.step is _fit:
        raise ValueError("--workers and --scheduler are for members that run. Received: folders of predictions alone.")
    for name in members.paths.keys() - set(members.run) if members.settings else ():
        print(f"{name}: taken as it was predicted; --tta is for weights files")
    require_packages(args.write)
    return members


def _fit(args: argparse.Namespace) -> int:
    from nucleus.ensemble.boosting import import_lightgbm
    from nucleus.ensemble.running import EnsemblePredictions, find_members_on, run_ensemble
    from nucleus.models.registry import make_config
    from nucleus.prediction.cluster import wanted_cluster
    from nucleus.prediction.results import Results
    from trainkit.files import require_writable

    members = _chosen_members(args)
    # A missing package and unknown groups are reported before models run for hours.
    import_lightgbm()
    require_writable(args.output.parent)
    if args.overwrite and args.predictions is None:
        raise ValueError("--overwrite is for the folder of --predictions. Received: --overwrite alone.")
    given = {"FEATURES": args.features, "THRESHOLD": args.threshold, "NMS_THRESHOLD": args.nms_threshold}
    given |= {"LEAST_VISIBLE": args.least_visible, "SEED": args.seed, "THREADS": args.threads}
    asked = {name: value for name, value in given.items() if value is not None}
    config = make_config("inference", settings=asked, model="ensemble")
    source = image_source(args, pixel_size=args.pixel_size)
    dataset = source.load(args.subset)
    print(f"Fitting to {source.describe(args.subset, dataset.num_images)}")
    members.require_unseen([info["id"] for info in dataset.image_info])
    folds = choose_folds(source, args.subset, args.folds, args.seed)
    model = members.model(config=config, folds=folds)
    with wanted_cluster(args.workers, args.scheduler) as cluster:
        model.elsewhere = None if cluster is None else partial(find_members_on, cluster, model)
        model.fit(dataset, None)
    model.save(args.output)
    print(model.cross_validation.report)
    print(f"\nLeast predicted IoU {model.ensemble.rules.threshold:g}: {args.output}")
    if args.predictions is None:
        return 0
    predictions = EnsemblePredictions(model, out_of_fold=True)
    with Results(args.predictions, args.overwrite, keep=False, reads=members.files) as results:
        done, _ = run_ensemble(predictions, dataset, results, default_formats(args.label_format, args.write))
    print(done)
    return report_failures(done.failures)


def _predict(args: argparse.Namespace) -> int:
    from nucleus.ensemble.fitted import check_members, read_ensemble
    from nucleus.ensemble.running import EnsemblePredictions, run_ensemble
    from nucleus.prediction.cluster import wanted_cluster
    from nucleus.prediction.inputs import collect_images
    from nucleus.prediction.results import Results

    members = _chosen_members(args)
    ensemble = read_ensemble(args.ensemble)
    check_members(ensemble.members, members.paths)
    fitted = members.differing_views(ensemble.about)
    if fitted is not None:
        _log.warning("%s: was fitted to what weights find with --tta=%s, not %s", args.ensemble, fitted, members.views)
    failures: list[str] = []
    if args.images:
        dataset, failures = collect_images(args.images, chosen_planes(args), args.pixel_size, args.recursive)
    else:
        source = image_source(args, pixel_size=args.pixel_size)
        dataset = source.load(args.subset, require_masks=False, failures=failures)
        print(f"Taking {source.describe(args.subset, dataset.num_images)}")
    if dataset.num_images == 0:
        return report_failures(failures)
    results = Results(output_folder(args, "ensemble"), args.overwrite, keep=False, reads=members.files)
    with results, wanted_cluster(args.workers, args.scheduler) as cluster:
        predictions = EnsemblePredictions((members if cluster is None else members.absolute()).model(ensemble))
        formats = default_formats(args.label_format, args.write)
        done, picks = run_ensemble(predictions, dataset, results, formats, cluster=cluster)
    done.failures[:0] = failures
    print(done)
    print("Picked:", ", ".join(f"{row.Index} {row.nuclei} ({row.part:.0%})" for row in picks.itertuples()))
    return report_failures(done.failures)


def _add_command(subparsers, name: str, summary: str, step) -> argparse.ArgumentParser:
    command = subparsers.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
    command.set_defaults(step=step)
    options.add_debug(command, default=argparse.SUPPRESS)
    return command


def _add_members(command: argparse.ArgumentParser) -> None:
    options.add_repeated(
        command,
        "--member",
        _member,
        "NAME=PATH",
        "a model and what it found: the folder that detect wrote, a folder of label images, the weights file "
        "of a model to run, or shipped or the name of shipped weights, such as nucleus_mask_rcnn. "
        "Repeat for more models, and with the same NAME for more folders of one model, such as those of its folds",
        dest="members",
        required=True,
    )
    options.add_views(
        command,
        "; only for members that are weights files, and with the same choice in fit and predict",
    )
    options.add_formats(command)


def _member(text: str) -> tuple[str, Path]:
    name, path = values.setting(text)
    if not path:
        raise argparse.ArgumentTypeError(f"expected NAME=PATH, received {text!r}")
    if path != SHIPPED and Path(path).exists():
        return name, Path(path)
    try:
        return name, existing_file(path)
    except WeightsNotFoundError:
        return name, Path(path)  # Reported as a missing folder, with the other members.
