"""`detect_images`: files and folders in, a folder of results out, as the command `nucleus detect` does it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from nucleus.datasets.dataset import NucleusDataset
from nucleus.images.decoding import NO_CHOICE, Planes
from nucleus.models.base import NucleusModel
from nucleus.models.loading import load_model
from nucleus.prediction.cluster import wanted_cluster
from nucleus.prediction.detection import DetectionRun, detect
from nucleus.prediction.inputs import collect_images, default_folder
from nucleus.prediction.results import Results
from nucleus.prediction.writers import default_formats


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
        planes: Choice of channel, plane and frame in files that hold several.
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
    failures: list[str] = []
    if isinstance(images, NucleusDataset):
        dataset, beside = images, None
    else:
        paths = [images] if isinstance(images, str | os.PathLike) else list(images)
        dataset, failures = collect_images(paths, planes, pixel_size, recursive)
        beside = default_folder(paths)
    if dataset.num_images == 0:
        raise ValueError("; ".join(failures) or "There is no image to detect in.")

    def build() -> NucleusModel:
        return model if isinstance(model, NucleusModel) else load_model(model, settings=settings)

    output = output or beside
    if output is None:
        raise ValueError("A data set and images in several folders need output=..., the folder of the results.")
    return detect_into(
        Results(output, overwrite, resume), build, dataset, failures, formats, progress, workers, scheduler
    )


def detect_into(
    results: Results,
    build: Callable[[], NucleusModel],
    dataset: NucleusDataset,
    failures: Sequence[str] = (),
    formats: Sequence[str] = default_formats(),
    progress: bool = True,
    workers: int | None = None,
    scheduler: str | None = None,
) -> DetectionRun:
    """Finds the nuclei in a data set with a model that is built when the folder of the results is known to be usable.

    Args:
        results: Folder of the results, not entered yet.
        build: Function that returns the model.
        dataset: Prepared data set without preprocessing.
        failures: Messages of inputs that could not be used, which come first in the summary.
        formats: Names in `nucleus.prediction.writers.WRITERS`.
        progress: Shows a progress bar.
        workers: Number of processes to predict in; None for this one.
        scheduler: Address of a scheduler of Dask whose workers predict, instead of `workers`.

    Returns:
        Summary of the run.

    Raises:
        ValueError: The model cannot be built, workers cannot be started or reached, or the folder holds results that
            this run must not touch.
        OSError: The folder cannot be written.
    """
    with results, wanted_cluster(workers, scheduler) as cluster:
        done = detect(build(), dataset, results, formats, progress, cluster)
    done.failures[:0] = failures
    return done
