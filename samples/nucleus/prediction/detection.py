"""Detection over many images: goes on past bad ones, and leaves one consistent folder of results."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nucleus.datasets.dataset import DatasetError, NucleusDataset
from nucleus.datasets.provenance import as_json
from nucleus.images.decoding import NO_CHOICE, Planes
from nucleus.models.base import NucleusModel, Prediction
from nucleus.models.loading import resolve
from nucleus.models.settings import PredictionSettings
from nucleus.prediction.chunks import Item, Predict, predict_singly, predict_together
from nucleus.prediction.cluster import Cluster, wanted_cluster
from nucleus.prediction.inputs import collect_images, default_folder
from nucleus.prediction.large import detect_large, split_large
from nucleus.prediction.manifest import DetectionRun
from nucleus.prediction.remote import Remote, remote_model
from nucleus.prediction.results import Results
from nucleus.prediction.run_writer import RunWriter, entered
from nucleus.prediction.writers import Record, Writer, default_formats
from nucleus.prediction.writers.labels import TiffLabels, ZarrLabels


def detect_images(
    images: str | os.PathLike | Iterable[str | os.PathLike] | NucleusDataset,
    output: str | os.PathLike | None = None,
    model: NucleusModel | str | os.PathLike | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    formats: Sequence[str] = default_formats(),
    planes: Planes = NO_CHOICE,
    pixel_size: float | None = None,
    recursive: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    workers: int | None = None,
    scheduler: str | None = None,
) -> DetectionRun:
    """Finds the nuclei in image files and writes a folder of results, as `nucleus detect` does.

    An image that fails is listed in `failures`, and the others go on.

    Args:
        images: An image file or a folder, several of both, or a prepared data set without preprocessing.
        output: Folder of the results; by default `FOLDER_nuclei` beside the folder of the images, or `IMAGE_nuclei`
            beside a single image. A data set and images in several folders need one.
        model: A model, or what `load_model` takes: a name, a file or a run's folder. By default the shipped model.
        settings: Attribute name -> value for `load_model`; not together with a model.
        formats: Names in `nucleus.prediction.writers.WRITERS`.
        planes: Choice of channel, plane and frame in files that hold several; by default the channel that the model
            was trained on.
        pixel_size: Side of a pixel in µm, for measurements; None for what each file says.
        recursive: True to take the images of all folders in the given ones, too.
        resume: True to continue the run in the folder, if there is one: images that it finished are not predicted
            again, and the tables are those of an undisturbed run.
        overwrite: True to replace the results of another run.
        progress: Shows a progress bar.
        workers: Number of processes to predict in; None for this one. A script that is run as a file calls this under
            `if __name__ == "__main__":` then, as with everything that starts processes.
        scheduler: Address of a scheduler of Dask whose workers predict, instead of `workers`.

    Returns:
        Summary of the run.

    Raises:
        ValueError: No image was found, the model cannot be loaded, an output folder is needed, workers cannot be
            started or reached or cannot use the model, or arguments contradict each other.
        ProvenanceError: The folder holds results, and neither `resume` nor `overwrite` is true; or it is to be resumed
            and was made with another model, other settings, another version of the program, or other images.
        OSError: The folder cannot be written.

    Examples:
        >>> import tempfile
        >>> from nucleus import shipped_data
        >>> image = next(shipped_data().glob("stage1_train/*/images/*.png"))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = detect_images(image, f"{folder}/found", "classical/otsu", progress=False)
        ...     run.images, sorted(path.name for path in run.output.glob("*.csv"))
        (1, ['images.csv', 'nuclei.csv', 'submission.csv'])
    """
    if isinstance(model, NucleusModel) and settings:
        raise ValueError("A model has its settings: set them when it is loaded. Received: a model and settings.")
    chosen = model if isinstance(model, NucleusModel) else resolve(model, settings=settings)
    failures: list[str] = []
    if isinstance(images, NucleusDataset):
        dataset, beside = images, None
    else:
        if isinstance(chosen.config, PredictionSettings):
            planes = planes.with_default(chosen.config.planes())
        paths = [images] if isinstance(images, str | os.PathLike) else list(images)
        dataset, failures = collect_images(paths, planes, pixel_size, recursive)
        beside = default_folder(paths)
    if dataset.num_images == 0:
        raise ValueError("; ".join(failures) or "There is no image to detect in.")
    output = output or beside
    if output is None:
        raise ValueError("A data set and images in several folders need output=..., the folder of the results.")
    with Results(output, overwrite, resume) as results, wanted_cluster(workers, scheduler) as cluster:
        loaded = chosen if isinstance(chosen, NucleusModel) else chosen.load()
        done = detect(loaded, dataset, results, formats, progress, cluster)
    done.failures[:0] = failures
    return done


def detect(
    model: NucleusModel,
    dataset: NucleusDataset,
    output: str | os.PathLike | Results,
    formats: Sequence[str] = default_formats(),
    progress: bool = True,
    cluster: Cluster | None = None,
) -> DetectionRun:
    """Finds the nuclei in every image of a data set and writes the results; see `write_detections`.

    Images of like size share network batches. Those that are too large for memory come first, read by regions; see
    `nucleus.prediction.large`.

    Args:
        model: The model.
        dataset: Prepared data set without preprocessing, since models preprocess images themselves.
        output: Folder of the results, which must not hold any yet; or `Results` that are entered, to replace or to
            resume others.
        formats: Names in `nucleus.prediction.writers.WRITERS`.
        progress: True to show a progress bar.
        cluster: Workers that predict, entered; None to predict in this process.

    Returns:
        Summary of the run.

    Raises:
        DatasetError: The data set preprocesses its images.
        ValueError: There is no such format, the folder holds results of another run, or the model cannot be sent to
            workers.
        OSError: A result cannot be written.

    Examples:
        >>> import tempfile
        >>> from nucleus import load_model, shipped_data
        >>> from nucleus.prediction.inputs import collect_images
        >>> images = sorted(shipped_data().glob("stage1_train/*/images/*.png"))[:2]
        >>> dataset, failures = collect_images(images)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     done = detect(load_model("classical/otsu"), dataset, folder, progress=False)
        ...     labels = sorted(path.stem for path in Path(folder, "labels").iterdir())
        >>> done.images, done.nuclei > 10, labels == [path.stem for path in images]
        (2, True, True)
    """
    small, large = split_large(dataset, model.config)
    _require_unprocessed(dataset)
    remote, facts = remote_model(cluster, model), {"model": model.describe()}
    suffix = ZarrLabels.suffix if "zarr" in formats else TiffLabels.suffix
    with entered(output) as results:
        run = RunWriter(results, dataset, formats, progress, facts, remote=remote)
        detect_large(model, large, results, run.done, run.writers, as_json(facts), suffix, progress, cluster)
        return run.write(predict_together(model, small.pixel_size_of), make_record, small, "detect")


def write_detections(
    find: Callable[[str, np.ndarray], Prediction],
    dataset: NucleusDataset,
    output: str | os.PathLike | Results,
    formats: Sequence[str] = default_formats(),
    progress: bool = True,
    more: Sequence[Callable[[Path], Writer]] = (),
    remote: Remote | None = None,
) -> DetectionRun:
    """Writes the nuclei found in every image of a data set.

    Whatever fails for one image is listed in `failures`, and the others go on. Files with one row an image or a nucleus
    are written at the end, after an interruption too, and hold this run's images; if no image could be done, nothing is
    written. The next images are read and the last ones written while nuclei are found.

    Args:
        find: Function from an image's id and its pixels, uint8 `[H, W, 3]` RGB as read, to labels (int32 `[H, W]`,
            1..N) and scores (float32 `[N]`).
        dataset: Prepared data set without preprocessing.
        output: Folder of the results; see `detect`.
        formats: Names in `nucleus.prediction.writers.WRITERS`.
        progress: Shows a progress bar of the images, and one of the tiles of each large image.
        more: Writers besides those of `formats`, made with the folder that they write into.
        remote: Prediction in other processes, instead of `find`.

    Returns:
        Summary of the run.

    Raises:
        DatasetError: The data set preprocesses its images.
        ValueError: There is no such format, or the folder holds results of another run.
        OSError: A result cannot be written.
    """
    _require_unprocessed(dataset)
    predict = predict_singly(find)
    return write_records(predict, make_record, dataset, output, formats, "detect", progress, remote, more)


def write_records(
    predict: Predict,
    make: Callable[[NucleusDataset, Item], Record],
    dataset: NucleusDataset,
    output: str | os.PathLike | Results,
    formats: Sequence[str],
    title: str,
    progress: bool = True,
    remote: Remote | None = None,
    more: Sequence[Callable[[Path], Writer]] = (),
) -> DetectionRun:
    """Makes a record of every image of a data set and writes it in every format.

    Args:
        predict: Gives every image of a chunk that has none a prediction or an error; called for one chunk after the
            other in the calling thread.
        make: Function from the data set and an image with a prediction to its record, called in another thread.
        dataset: Prepared data set.
        output: Folder of the results; see `detect`.
        formats: Names in `nucleus.prediction.writers.WRITERS`.
        title: Title of the progress bar.
        progress: Shows a progress bar of the images.
        remote: Prediction in other processes, instead of `predict`; they call `make`, too.
        more: Writers besides those of `formats`, made with the folder that they write into.

    Returns:
        Summary of the run.

    Raises:
        ValueError: There is no such format, or the folder holds results of another run.
        OSError: A result cannot be written.
    """
    with entered(output) as results:
        run = RunWriter(results, dataset, formats, progress, more=more, remote=remote)
        return run.write(predict, make, dataset, title)


def _require_unprocessed(dataset: NucleusDataset) -> None:
    if dataset.preprocessing is not None:
        raise DatasetError("Prediction preprocesses images itself: detect on a dataset without preprocessing.")


def make_record(dataset: NucleusDataset, item: Item) -> Record:
    """Returns an image and its nuclei for the writers.

    Args:
        dataset: Prepared data set of the image.
        item: The image with its prediction.
    """
    found, raw = item.prediction, dataset.load_raw(item.index)
    place = dataset.image_info[item.index]["place"]
    return Record(item.id, item.file, item.image, found.labels, found.scores, raw, place, found.scale, found.diameter)
