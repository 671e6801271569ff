"""Prediction of images that are too large for memory: tile by tile, resumable, labels written while it runs."""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from tqdm import tqdm

from nucleus.images.lazy import LazyImage
from nucleus.images.tissue import is_glass
from nucleus.images.writing import write_label_bands
from nucleus.models.base import NEEDS_WHOLE_IMAGES, NucleusModel
from nucleus.models.levels import Fit, fit_level
from nucleus.models.limits import UnknownSize, report_limit, unknown_size, warn_of_limits, watch_limits
from nucleus.models.parts import Nucleus, Part, Region
from nucleus.models.scale import AutoScale, FixedScale, at_factor
from nucleus.models.seams import Seams, divide_rows, find_parts, paint, settle
from nucleus.models.tile_store import Seen, TileStore
from nucleus.models.tiles import Tiles

_log = logging.getLogger(__name__)

# Looks at tiles of an image, given the image at its level, the factor of its height and width and the tiles' numbers:
# yields the number of each with the tiles that it was divided into and their nuclei, both in pixels of the level.
Look = Callable[[LazyImage, float, Sequence[int]], Iterator[tuple[int, list[Region], list[Part]]]]
# Rows of the label image that are in memory at once.
_BAND = 512
# Where `atomic_path` puts its random letters.
_RANDOM = "?" * 8


@dataclass(frozen=True)
class LargePrediction:
    """The nuclei of an image that is too large for memory.

    Attributes:
        path: File or folder of the label image.
        nuclei: Boxes, masks and scores; label k + 1 is `nuclei[k]`.
        tiles: Number of tiles.
        glass: Number of tiles that were left out as empty glass.
        fit: Level of the pyramid that was read, and factor at which the model was shown it.
        image: The image at that level; usable until the image that was given is closed.
    """

    path: Path
    nuclei: list[Nucleus]
    tiles: int
    glass: int
    fit: Fit
    image: LazyImage

    @property
    def scale(self) -> float:
        """Factor of height and width of the level at which the model was shown it."""
        return self.fit.factor


def predict_large(
    model: NucleusModel,
    image: LazyImage,
    output: str | os.PathLike,
    skip_glass: bool = True,
    identity: str | None = None,
    progress: bool = True,
    work: str | os.PathLike | None = None,
    look: Look | None = None,
) -> LargePrediction:
    """Finds the nuclei of an image of which only regions are in memory, and writes its label image meanwhile.

    The level of a pyramid and the scale are found as `nucleus.models.levels` says. The image is divided as
    `nucleus.models.tiles` divides it, and nuclei are merged by the rule in `nucleus.models.seams`. What a whole image
    decides (the scale of samples of more than 8 bits, STRETCH, a classical method's threshold) is decided by one
    subsample, so that all tiles agree; see `LazyImage.sample`.

    After each row of tiles the rows of the label image that are certain are written, into a file that takes its name
    when it is complete. The nuclei of each tile are kept in a folder until then. A call that finds the folder
    of the same image, settings, tiles and `identity` predicts only the missing tiles and leaves the same files as one
    that was never interrupted; otherwise it begins anew. In memory are one tile, the nuclei of a row of tiles, a band
    of the label image, and some 350 bytes for each nucleus of the image.

    Args:
        model: A model in tiles, as `nucleus.load_model` returns it.
        image: The image. Unless a level was chosen when it was opened, the one that fits the model is read.
        output: Label image to write: `.tif` or `.tiff`, a tiled TIFF (BigTIFF where it is needed), or `.zarr`, an
            OME-Zarr folder.
        skip_glass: Leaves out tiles that are empty glass; see `nucleus.images.tissue`.
        identity: Text that changes when the model's weights do, such as their checksum; "" for a model without. None
            if that is not known: an interrupted call is not continued then, but begun anew.
        progress: Shows a progress bar of the tiles.
        work: Folder of the tiles' nuclei, which stays; by default `<output>.tiles`, which is removed in the end.
        look: Function that looks at the tiles elsewhere, such as in other processes.

    Returns:
        The nuclei, in pixels of the level that was read.

    Raises:
        ValueError: The model has no tiles, its settings need the whole image (CLAHE), or the suffix is unknown.
        ImageFileError: The image is damaged.
        OSError: A file cannot be written.
    """
    output = Path(output)
    if output.suffix.lower() not in (".tif", ".tiff", ".zarr"):
        raise ValueError(f"{output}: the label image of a large image is written as .tif, .tiff or .zarr")
    model = model.at_pixel_size(image.pixel_size)
    _require_tiles(model)
    for left in output.parent.glob(f".{glob.escape(output.stem)}.{_RANDOM}{output.suffix}"):
        left.unlink()
    folder = output.with_name(f"{output.name}.tiles") if work is None else Path(work)
    if identity is None:
        shutil.rmtree(folder, ignore_errors=True)
    store = TileStore(folder, _plan(model, image, skip_glass, identity))
    with warn_of_limits(str(image.path)):
        fit = Fit(**store.remember("fit", lambda: asdict(fit_level(model, image))))
        if fit.warning:
            _log.warning("%s: %s", image.path, fit.warning)
        unknown = unknown_size(model.config.KNOWN_DIAMETERS, fit.diameter, fit.factor)
        if unknown is not None:
            report_limit(unknown)
        image = image.at_level(fit.level)
        shape = image.shape[:2]
        looking = TileLooking.at(model, image, fit.factor, skip_glass)
        missing = [number for number in range(looking.count) if store.read(number) is None]
        seen = looking.look_at(missing) if look is None else look(image, fit.factor, missing)
        with tqdm(total=looking.count, desc="tiles", unit="tile", disable=not progress) as bar:
            run = _Run(looking, shape, seen, store, bar)
            write_label_bands(output, run.bands(), shape, image.pixel_size, _BAND)
    if work is None:
        store.remove()
    return LargePrediction(output, run.nuclei, looking.count, run.glass, fit, image)


def find_scale(model: NucleusModel, image: LazyImage) -> tuple[float, UnknownSize | None]:
    """Finds the scale at which a model is shown an image at the level at which it was opened.

    Args:
        model: A model in tiles.
        image: The image.

    Returns:
        Factor of height and width, and a limit to report if the model does not know nuclei of that size.

    Raises:
        ValueError: The model has no tiles, or its settings need the whole image (CLAHE).
    """
    model = model.at_pixel_size(image.pixel_size)
    _require_tiles(model)
    fit = fit_level(model, image.at_level(image.level))
    return fit.factor, unknown_size(model.config.KNOWN_DIAMETERS, fit.diameter, fit.factor)


def settle_all(parts: Sequence[Part], regions: Sequence[Region], shape: tuple[int, int], overlap: int) -> list[Nucleus]:
    """Decides which nuclei of all tiles remain; see `nucleus.models.seams.settle`.

    Args:
        parts: Nuclei of all tiles.
        regions: The tiles that were looked at; all nuclei of a single one that is the image remain, in their order.
        shape: (height, width) of the image.
        overlap: Overlap of neighbouring tiles in pixels.
    """
    if list(regions) == [(0, 0, *shape)]:
        return [Nucleus(part.box, part.bits, part.score) for part in parts]
    return settle(parts, regions, shape, overlap)


class TileLooking:
    """Prediction of the tiles of an image of which only regions are in memory.

    Args:
        tiled: The model in the tiles of its scale.
        image: The image.
        skip_glass: Leaves out tiles that are empty glass.

    Attributes:
        tiles: The tiles.
        overlap: Overlap of neighbouring tiles in pixels.

    Raises:
        ValueError: The model has no tiles, or its settings need the whole image (CLAHE).
    """

    def __init__(self, tiled: Tiles, image: LazyImage, skip_glass: bool) -> None:
        _require_tiles(tiled)
        self._tiled, self._image, self._skip_glass = tiled, image, skip_glass
        self.tiles = tiled.regions(image.shape[:2])
        self.overlap = tiled.overlap

    @classmethod
    def at(cls, model: NucleusModel, image: LazyImage, scale: float, skip_glass: bool) -> TileLooking:
        """Returns the prediction of the tiles by a model at a scale that is known.

        Args:
            model: A model as `nucleus.load_model` returns it.
            image: The image.
            scale: Factor of height and width of the image at which the model is shown it.
            skip_glass: Leaves out tiles that are empty glass.
        """
        return cls(_tiled(model, scale), image, skip_glass)

    @property
    def count(self) -> int:
        """Number of tiles."""
        return len(self.tiles)

    def look_at(self, numbers: Iterable[int]) -> Iterator[tuple[int, list[Region], list[Part]]]:
        """Looks at tiles one after the other; yields the number of each with the result of `look`.

        Args:
            numbers: Indices of the tiles.
        """
        for number in numbers:
            yield number, *self.look(number)

    def look(self, number: int) -> tuple[list[Region], list[Part]]:
        """Looks at a tile.

        Args:
            number: Index of the tile.

        Returns:
            The tile, or those that it was divided into, in pixels of the image, and their nuclei; none of empty glass.
        """
        y1, x1, y2, x2 = self.tiles[number]
        if self._skip_glass:
            glance = self._image.glance(y1, y2, x1, x2)
            if glance is not None and is_glass(*glance):
                return [], []
        pixels = self._image.region(y1, y2, x1, x2)
        if self._skip_glass and is_glass(pixels):
            return [], []
        regions: list[Region] = []
        parts: list[Part] = []
        prepare, model = self._ready
        found = self._tiled.look(model, prepare(pixels), (0, 0, y2 - y1, x2 - x1))
        for (top, left, bottom, right), prediction in found:
            regions.append((top + y1, left + x1, bottom + y1, right + x1))
            parts += find_parts(prediction, regions[-1], self._image.shape[:2])
        return regions, parts

    @cached_property
    def _ready(self) -> tuple[Callable[[np.ndarray], np.ndarray], NucleusModel]:
        """The preprocessing of regions, and the model with what the whole image decides."""
        prepare = self._tiled.preparation(self._image.sample)
        if len(self.tiles) == 1:
            return prepare, self._tiled.model
        return prepare, self._tiled.model.calibrate(prepare(self._image.sample()))


class _Run:
    """A prediction in progress.

    Args:
        looking: The tiles of the image.
        shape: (height, width) of the image.
        seen: Numbers of the tiles that are not in the store, with the tiles that were looked at and their nuclei.
        store: The tiles that are done, to which the others are added.
        bar: Progress bar of the tiles.

    Attributes:
        nuclei: All nuclei that are certain.
        glass: Number of tiles that were left out as empty glass.
    """

    def __init__(
        self,
        looking: TileLooking,
        shape: tuple[int, int],
        seen: Iterator[tuple[int, list[Region], list[Part]]],
        store: TileStore,
        bar: tqdm,
    ) -> None:
        self.nuclei: list[Nucleus] = []
        self.glass = 0
        self._tiles, self._shape, self._seen, self._store, self._bar = looking.tiles, shape, seen, store, bar
        self._seams = Seams(shape, looking.overlap)

    def bands(self) -> Iterator[np.ndarray]:
        """Yields the label image, int32 `[rows, W]` from top to bottom, each band as soon as it is certain."""
        height, width = self._shape
        waiting, top = list[int](), 0
        for row, below in divide_rows(self._tiles):
            first = len(self.nuclei)
            self.nuclei += self._settle([self._take(number) for number in row], below)
            waiting += range(first, len(self.nuclei))
            certain = self._seams.certain
            while top < certain and (top + _BAND <= certain or certain == height):
                labels = np.zeros((min(_BAND, height - top), width), np.int32)
                bottom = top + len(labels)
                paint(labels, (top, 0), self.nuclei, [at for at in waiting if self.nuclei[at].box[0] < bottom])
                waiting = [at for at in waiting if self.nuclei[at].box[2] > bottom]
                yield labels
                top = bottom

    def _settle(self, row: Sequence[Seen], below: int | None) -> list[Nucleus]:
        """Returns the nuclei that are certain after a row of tiles."""
        whole = [(0, 0, *self._shape)]
        for seen in row:
            self.glass += not seen.tiles
            for limit in seen.limits:
                report_limit(limit)
            self._seams.add([] if seen.tiles == whole else seen.parts, seen.tiles)
        certain = self._seams.settle(below)
        return settle_all(row[0].parts, whole, self._shape, 1) if row[0].tiles == whole else certain

    def _take(self, number: int) -> Seen:
        """Returns the nuclei of a tile: those that are kept, or else those that come now, which are kept then."""
        kept = self._store.read(number)
        while kept is None:
            with watch_limits() as reached:
                come, tiles, parts = next(self._seen)
            seen = Seen(tiles, parts, reached)
            self._store.write(come, seen)
            kept = seen if come == number else None
        self._bar.update()
        return kept


def _tiled(model: NucleusModel, factor: float) -> Tiles:
    """Returns a model in the tiles of the factor at which it is shown an image."""
    return at_factor(model.model, factor) if isinstance(model, AutoScale | FixedScale) else model


def _require_tiles(model: NucleusModel) -> None:
    if not isinstance(_tiled(model, 1.0), Tiles):
        raise ValueError(
            f"Expected a model in tiles, as load_model returns it with TILE_SIZE. Received: {type(model).__name__}"
        )
    if model.needs_whole_images:
        raise ValueError(NEEDS_WHOLE_IMAGES)


def _plan(model: NucleusModel, image: LazyImage, skip_glass: bool, identity: str | None) -> dict[str, object]:
    """Returns all that the nuclei of tiles depend on, as JSON can hold it."""
    status = image.path.stat()
    settings = json.dumps(model.config.to_dict(), default=str, sort_keys=True)
    return {
        "image": str(image.path.resolve()),
        "bytes": status.st_size,
        "modified": status.st_mtime_ns,
        "choice": image.planes.described(),
        "level": image.level if image.chosen else None,
        "shape": list(image.shape),
        "pixel_size": image.pixel_size,
        "tiles": [model.side, model.overlap] if isinstance(model, Tiles) else None,
        "factor": model.factor if isinstance(model, FixedScale) else None,
        "skip_glass": skip_glass,
        "model": [type(model.model).__name__, hashlib.sha256(settings.encode()).hexdigest(), identity],
    }
