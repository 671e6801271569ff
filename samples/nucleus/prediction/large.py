"""Images that are too large for memory in a run of detection: label image and table of each, block by block."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial import KDTree
from tqdm import tqdm

from nucleus.datasets.dataset import NucleusDataset
from nucleus.images.decoding import ImageFileError, RawImage
from nucleus.images.lazy import LazyImage, open_lazy
from nucleus.measurement import measure, summarise
from nucleus.measurement.nuclei import COLUMNS, in_order
from nucleus.models.base import NucleusModel
from nucleus.models.large import LargePrediction, predict_large
from nucleus.models.parts import Nucleus
from nucleus.models.portable import PortableModel
from nucleus.models.seams import paint
from nucleus.models.settings import SizeSettings, ViewSettings
from nucleus.prediction.cluster import Cluster
from nucleus.prediction.manifest import DetectionRun, identify
from nucleus.prediction.results import Results
from nucleus.prediction.writers import Writer
from nucleus.prediction.writers.csv_tables import number_text
from nucleus.prediction.writers.labels import LABELS_FOLDER
from trainkit.files import atomic_path

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
    if not isinstance(config, SizeSettings) or not config.LAZY_SIZE or not config.TILE_SIZE:
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
    writers: Sequence[Writer],
    identity: str,
    suffix: str = ".tif",
    progress: bool = True,
    cluster: Cluster | None = None,
) -> None:
    """Finds the nuclei of images of which only regions are in memory.

    Each image has a label image `labels/<id>.tif` or `.zarr`, a table `nuclei_<id>.csv` with the columns of
    `nuclei.csv`, and a row in the table of images, which says too which level was read. A run that was interrupted goes
    on with the tiles that are missing when it is resumed.

    Args:
        model: A model in tiles.
        dataset: Prepared data set of the images; see `split_large`.
        results: Folder of the results, entered and started.
        done: Summary of the run, to which the images are added.
        writers: Writers of the run, which are given the rows of the images.
        identity: Text that changes when the model's weights do.
        suffix: Of the label images: ".tif" or ".zarr".
        progress: Shows a progress bar of the tiles.
        cluster: Workers that look at the tiles, entered; None to do so in this process.

    Raises:
        OSError: A result cannot be written.
    """
    if not dataset.num_images:
        return
    skip, look = model.config.SKIP_GLASS, None
    if cluster is not None:
        look = partial(cluster.tiles, PortableModel(model).pack(), skip)
    for index, info in enumerate(dataset.image_info):
        path, image_id = info["path"], info["id"]
        if results.is_done(image_id):
            about = results.keep(image_id)
            done.resumed += 1
        else:
            target = results.staging / LABELS_FOLDER / f"{image_id}{suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            work = results.tiles_folder(image_id)
            try:
                with open_lazy(path, dataset.planes_of(index), pixel_size=dataset.pixel_size) as image:
                    found = predict_large(model, image, target, skip, identity, progress, work, look)
                    table = measure_large(found.nuclei, found.image)
                    row = _summary(image_id, str(path), found, table)
                    _report(path, found, progress)
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
            about = {**identify(path), "nuclei": len(found.nuclei), "row": row}
            results.commit(image_id, None, about)
            # Not before: a run that is killed while it measures need not predict again.
            shutil.rmtree(work)
        for writer in writers:
            writer.add_row(image_id, about["row"])
        done.images, done.nuclei = done.images + 1, done.nuclei + int(about["nuclei"])


def _summary(image_id: str, file: str, found: LargePrediction, table: pd.DataFrame) -> dict[str, Any]:
    """Returns the row of an image in the table of images; lengths are in pixels of the level that was read."""
    image = found.image
    height, width, _ = image.shape
    row = {"ImageId": image_id, "file": file, "height": height, "width": width, "nuclei": len(table)}
    row |= summarise(table, (height, width), image.pixel_size)
    row |= {"scale": found.fit.factor, "diameter": found.fit.diameter}
    row |= {"level": found.fit.level, "downsampling": image.downsampling}
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in row.items()}


def _report(path: str, found: LargePrediction, progress: bool) -> None:
    """Says at which level and scale an image was read, beside the progress bar."""
    if progress:
        glass = f"; {found.glass} of {found.tiles} tiles are empty glass" if found.glass else ""
        tqdm.write(f"{path}: {found.fit.describe(found.image)}{glass}", file=sys.stderr)


def measure_large(nuclei: Sequence[Nucleus], image: LazyImage) -> pd.DataFrame:
    """Measures the nuclei of an image of which only blocks are in memory.

    Args:
        nuclei: The nuclei; the label of each is its index and 1.
        image: The image, at the level in which they were found.

    Returns:
        The table that `nucleus.measurement.measure` makes of the whole image.
    """
    size = image.pixel_size
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
