"""Images that are too large for memory in a run of detection: label image and table of each, block by block."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.spatial import KDTree

from nucleus.datasets.dataset import NucleusDataset
from nucleus.images.decoding import ImageFileError, RawImage
from nucleus.images.lazy import LazyImage, open_lazy
from nucleus.measurement import measure
from nucleus.measurement.nuclei import COLUMNS, in_order
from nucleus.models.base import NucleusModel
from nucleus.models.large import predict_large
from nucleus.models.portable import PortableModel
from nucleus.models.seams import Nucleus, paint
from nucleus.models.settings import PredictionSettings, ViewSettings
from nucleus.prediction.cluster import Cluster
from nucleus.prediction.results import Results, identify
from nucleus.prediction.runs import DetectionRun
from nucleus.prediction.writers.csv_tables import number_text
from nucleus.prediction.writers.labels import LABELS_FOLDER
from trainkit.files import atomic_path

_log = logging.getLogger(__name__)

# Side in pixels of the blocks in which nuclei are measured.
_BLOCK = 2048


def split_large(dataset: NucleusDataset, config: ViewSettings) -> tuple[NucleusDataset, NucleusDataset]:
    """Separates the images that are read by regions from those that are decoded whole.

    Args:
        dataset: Prepared data set.
        config: Settings of the model; images of more than LAZY_SIZE x LAZY_SIZE pixels are read by regions, where their
            format allows it and TILE_SIZE is above 0. An ensemble reads all images whole.

    Returns:
        Prepared data sets of the images that are decoded whole, and of the large ones.
    """
    ids = [info["id"] for info in dataset.image_info]
    large = {name for index, name in enumerate(ids) if _is_large(dataset, index, config)}
    if not large:
        return dataset, dataset.with_images(())
    return dataset.with_images(set(ids) - large), dataset.with_images(large)


def _is_large(dataset: NucleusDataset, index: int, config: ViewSettings) -> bool:
    path = Path(dataset.image_info[index]["path"])
    # These are decoded whole anyway.
    if not isinstance(config, PredictionSettings) or not config.LAZY_SIZE or not config.TILE_SIZE:
        return False
    if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".bmp"):
        return False
    try:
        with open_lazy(path, dataset.planes_of(index)) as image:
            return image.regional and image.shape[0] * image.shape[1] > config.LAZY_SIZE**2
    except ImageFileError:
        # The error is reported when it is read.
        return False


def detect_large(
    model: NucleusModel,
    dataset: NucleusDataset,
    results: Results,
    done: DetectionRun,
    identity: str,
    progress: bool = True,
    cluster: Cluster | None = None,
) -> None:
    """Finds the nuclei of images of which only regions are in memory.

    Each image has a label image `labels/<id>.tif` and a table `nuclei_<id>.csv` with the columns of `nuclei.csv`. A run
    that was interrupted goes on with the tiles that are missing when it is resumed.

    Args:
        model: A model in tiles.
        dataset: Prepared data set of the images; see `split_large`.
        results: Folder of the results, entered and started.
        done: Summary of the run, to which the images are added.
        identity: Text that changes when the model's weights do.
        progress: Shows a progress bar of the tiles.
        cluster: Workers that look at the tiles, entered; None to do so in this process.

    Raises:
        OSError: A result cannot be written.
    """
    portable = None if cluster is None else PortableModel(model).pack()
    for index, info in enumerate(dataset.image_info):
        path, image_id = info["path"], info["id"]
        if results.is_done(image_id):
            results.keep(image_id)
            done.images, done.resumed = done.images + 1, done.resumed + 1
            done.nuclei += results.nuclei_of(image_id)
            continue
        target = results.staging / LABELS_FOLDER / f"{image_id}.tif"
        target.parent.mkdir(parents=True, exist_ok=True)
        work = results.tiles_folder(image_id)
        try:
            with open_lazy(path, dataset.planes_of(index)) as image:
                skip = model.config.SKIP_GLASS
                look = None if portable is None else partial(cluster.tiles, portable, skip)
                found = predict_large(model, image, target, skip, identity, progress, work, look)
                table = measure_large(found.nuclei, image, dataset.pixel_size)
        except (MemoryError, ValueError) as error:
            text = str(error) if isinstance(error, ValueError) else "its nuclei do not fit into memory"
            message = results.named(text if text.startswith(str(path)) else f"{path}: {text}")
            results.fail(image_id, message)
            done.failures.append(message)
            continue
        table.insert(0, "ImageId", image_id)
        table.insert(2, "score", [nucleus.score for nucleus in found.nuclei])
        with atomic_path(results.staging / f"nuclei_{image_id}.csv") as temporary:
            table.to_csv(temporary, index=False, float_format=number_text, lineterminator="\n")
        glass = f", {found.glass} of {found.tiles} tiles empty glass" if found.glass else ""
        results.commit(image_id, None, {**identify(path), "nuclei": len(found.nuclei)})
        done.images, done.nuclei = done.images + 1, done.nuclei + len(found.nuclei)
        _log.info("%s: %d nuclei%s", path, len(found.nuclei), glass)


def measure_large(nuclei: Sequence[Nucleus], image: LazyImage, pixel_size: float | None = None) -> pd.DataFrame:
    """Measures the nuclei of an image of which only blocks are in memory.

    Args:
        nuclei: The nuclei; the label of each is its index and 1.
        image: The image.
        pixel_size: Side of a pixel of the largest level in µm; None for what the file says.

    Returns:
        The table that `nucleus.measurement.measure` makes of the whole image.
    """
    size = image.pixel_size if pixel_size is None else pixel_size * image.downsampling
    blocks: dict[tuple[int, int], list[int]] = {}
    for number, nucleus in enumerate(nuclei):
        blocks.setdefault((int(nucleus.box[0]) // _BLOCK, int(nucleus.box[1]) // _BLOCK), []).append(number)
    tables = [_measure_block(nuclei, numbers, image, size) for _, numbers in sorted(blocks.items())]
    if not tables:
        empty = RawImage(*image.raw(0, 1, 0, 1)[:3], size)
        return measure(np.zeros((1, 1), np.int32), empty)
    table = pd.concat(tables, ignore_index=True).sort_values("label", ignore_index=True)
    _fill_equal_channels(table)
    centroids = table[["centroid_y", "centroid_x"]].to_numpy()
    table["nearest_distance"] = KDTree(centroids).query(centroids, k=2)[0][:, 1] if len(table) > 1 else np.nan
    height, width, _ = image.shape
    inside = (table["y1"] > 0) & (table["x1"] > 0) & (table["y2"] < height) & (table["x2"] < width)
    table["touches_edge"] = (~inside).astype(np.int64)
    if size is not None:
        for name in ("centroid_y", "centroid_x", "nearest_distance"):
            table[f"{name}_um"] = table[name] * size
    return table[in_order(table.columns, COLUMNS)]


def _measure_block(
    nuclei: Sequence[Nucleus], numbers: Sequence[int], image: LazyImage, size: float | None
) -> pd.DataFrame:
    """Measures some nuclei in the part of the image that they lie in."""
    boxes = np.array([nuclei[number].box for number in numbers])
    (y0, x0), (y1, x1) = boxes[:, :2].min(axis=0).tolist(), boxes[:, 2:].max(axis=0).tolist()
    labels = np.zeros((y1 - y0, x1 - x0), np.int32)
    paint(labels, (y0, x0), [nuclei[number] for number in numbers], range(len(numbers)))
    table = measure(labels, image.raw(y0, y1, x0, x1)._replace(pixel_size=size))
    table["label"] = np.array(numbers)[table["label"] - 1] + 1
    for axis, start in (("y", y0), ("x", x0)):
        for name in (f"centroid_{axis}", f"{axis}1", f"{axis}2"):
            table[name] += start
    return table


def _fill_equal_channels(table: pd.DataFrame) -> None:
    """Fills in the channels of blocks in which all channels are equal and count as one: their intensity is theirs."""
    for name in table.columns[table.isna().any()]:
        statistic, _, channel = name.partition("_")
        source = f"{statistic}_intensity"
        if channel and source in table.columns and name not in COLUMNS:
            table[name] = table[name].fillna(table[source])
