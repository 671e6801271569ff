"""Prediction of images that are too large for memory: tile by tile, resumable, with labels written in bands."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from nucleus.images.lazy import LazyImage
from nucleus.images.stretch import Stretch
from nucleus.images.tissue import is_glass
from nucleus.images.writing import write_label_bands
from nucleus.models.base import NucleusModel
from nucleus.models.limits import UnknownSize, report_limit, warn_of_limits
from nucleus.models.scale import AutoScale, FixedScale, at_factor, find_factor
from nucleus.models.seams import Nucleus, Part, Region, find_parts, paint, settle
from nucleus.models.settings import PredictionSettings
from nucleus.models.tiles import Tiles
from trainkit.files import atomic_path, write_text

# Looks at tiles of an image, given the image at its level, the factor of its height and width and the tiles' numbers:
# yields the number of each with the tiles that it was divided into and their nuclei, both in pixels of the level.
Look = Callable[[LazyImage, float, Sequence[int]], Iterator[tuple[int, list[Region], list[Part]]]]
PLAN_FILE = "plan.json"
# Rows of the label image that are in memory at once.
_BAND = 512


@dataclass(frozen=True)
class LargePrediction:
    """The nuclei of an image that is too large for memory.

    Attributes:
        path: File or folder of the label image.
        nuclei: Boxes, masks and scores; label k + 1 is `nuclei[k]`.
        tiles: Number of tiles.
        scale: Factor of height and width at which the model was shown the image.
        glass: Number of tiles that were left out as empty glass.
    """

    path: Path
    nuclei: list[Nucleus]
    tiles: int
    glass: int
    scale: float


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
    """Finds the nuclei of an image of which only regions are in memory, and writes its label image.

    The scale of a model that finds it by itself is found in a region of 2048 x 2048 pixels; see `nucleus.models.scale`.
    The image is divided as `nucleus.models.tiles` divides it, and nuclei are merged by the rule in
    `nucleus.models.seams`. What a whole image decides (the scale of samples of more than 8 bits, STRETCH, a classical
    method's threshold) is decided by one subsample, so that all tiles agree; see `LazyImage.sample`.

    The nuclei of each tile are kept in the folder `work` until the label image is complete. A call that finds
    the folder of the same image, settings, tiles and `identity` goes on with the missing tiles; otherwise it begins
    anew. In memory are one tile, a band of the label image, and some 700 bytes a nucleus.

    Args:
        model: A model in tiles, as `nucleus.load_model` returns it.
        image: The image.
        output: Label image to write: `.tif` or `.tiff`, a tiled TIFF (BigTIFF where it is needed), or `.zarr`, an
            OME-Zarr folder.
        skip_glass: Leaves out tiles that are empty glass; see `nucleus.images.tissue`.
        identity: Text that changes when the model's weights do, such as their checksum; "" for a model without. None
            if that is not known: an interrupted call is not continued then, but begun anew.
        progress: Shows a progress bar of the tiles.
        work: Folder of the tiles' nuclei; by default `<output>.tiles`.
        look: Function that looks at the tiles elsewhere, such as in other processes.

    Returns:
        The nuclei, in pixels of the level that `image` reads.

    Raises:
        ValueError: The model has no tiles, its settings need the whole image (CLAHE), or the suffix is unknown.
        ImageFileError: The image is damaged.
        OSError: A file cannot be written.
    """
    output = Path(output)
    if output.suffix.lower() not in (".tif", ".tiff", ".zarr"):
        raise ValueError(f"{output}: the label image of a large image is written as .tif, .tiff or .zarr")
    height, width, _ = image.shape
    sample = image.sample()
    prepare = _preparation(model.config, sample)
    tiled, scale, limit = _at_scale(model, image, prepare)
    tiles = tiled.regions((height, width))
    work = output.with_name(f"{output.name}.tiles") if work is None else Path(work)
    if identity is None:
        shutil.rmtree(work, ignore_errors=True)
    store = _Store(work, _plan(tiled, scale, image, skip_glass, identity))
    missing = [number for number in range(len(tiles)) if not store.has(number)]
    if missing:
        seen = look(image, scale, missing) if look else TileLooking(tiled, image, skip_glass, sample).look_at(missing)
        del sample
        done = len(tiles) - len(missing)
        bar = tqdm(seen, "tiles", len(tiles), unit="tile", initial=done, disable=not progress)
        with warn_of_limits(str(image.path)):
            if limit is not None:
                report_limit(limit)
            for number, regions, parts in bar:
                store.write(number, regions, parts)
    regions, parts, glass = store.read(range(len(tiles)))
    nuclei = settle_all(parts, regions, (height, width), tiled.overlap)
    del parts
    write_label_bands(output, _bands(nuclei, height, width), (height, width), len(nuclei), image.pixel_size, _BAND)
    store.remove()
    return LargePrediction(output, nuclei, len(tiles), glass, scale)


def settle_all(parts: Sequence[Part], regions: Sequence[Region], shape: tuple[int, int], overlap: int) -> list[Nucleus]:
    """Decides which nuclei of all tiles remain; see `nucleus.models.seams.settle`.

    Args:
        parts: Nuclei of all tiles.
        regions: The tiles that were looked at; all nuclei of a single one that is the image remain.
        shape: (height, width) of the image.
        overlap: Overlap of neighbouring tiles in pixels.
    """
    whole = (0, 0, *shape)
    if list(regions) == [whole]:
        return [Nucleus(part.box, part.bits, part.score) for part in parts]
    return settle(parts, regions or [whole], shape, overlap)


def find_scale(model: NucleusModel, image: LazyImage) -> tuple[float, UnknownSize | None]:
    """Finds the scale at which a model is shown an image; see `predict_large`.

    Args:
        model: A model in tiles.
        image: The image.

    Returns:
        Factor of height and width, and a limit to report if the model does not know nuclei of that size.

    Raises:
        ValueError: The model has no tiles, or its settings need the whole image (CLAHE).
    """
    return _at_scale(model, image, _preparation(model.config, image.sample()))[1:]


def _at_scale(
    model: NucleusModel, image: LazyImage, prepare: Callable[[np.ndarray], np.ndarray]
) -> tuple[Tiles, float, UnknownSize | None]:
    """Returns the model in the tiles of its scale, the scale, and a limit to report if it does not know such nuclei."""
    if isinstance(model, AutoScale):
        known = model.config.KNOWN_DIAMETERS
        scale, diameter = find_factor(model.model, prepare(image.busy_region()), known)
        fits = not diameter or known[0] <= diameter * scale <= known[2]
        limit = None if fits else UnknownSize(diameter, scale, (known[0], known[2]))
        return _in_tiles(at_factor(model.model, scale)), scale, limit
    return *_at_own_scale(model), None


def _at_own_scale(model: NucleusModel) -> tuple[Tiles, float]:
    """Returns a model that does not find its scale by itself in its tiles, and the scale."""
    tiled, scale = (model.scaled, model.factor) if isinstance(model, FixedScale) else (model, 1.0)
    return _in_tiles(tiled), scale


def _in_tiles(tiled: NucleusModel) -> Tiles:
    if not isinstance(tiled, Tiles):
        raise ValueError(
            f"Expected a model in tiles, as load_model returns it with TILE_SIZE. Received: {type(tiled).__name__}"
        )
    return tiled


class TileLooking:
    """Prediction of the tiles of an image of which only regions are in memory.

    Args:
        tiled: The model in the tiles of its scale.
        image: The image.
        skip_glass: Leaves out tiles that are empty glass.
        sample: Result of `image.sample()`.

    Attributes:
        count: Number of tiles.
        overlap: Overlap of neighbouring tiles in pixels.

    Raises:
        ValueError: The settings need the whole image (CLAHE).
    """

    def __init__(self, tiled: Tiles, image: LazyImage, skip_glass: bool, sample: np.ndarray) -> None:
        self._tiled, self._image, self._skip_glass = tiled, image, skip_glass
        self._prepare = _preparation(tiled.config, sample)
        self._tiles = tiled.regions(image.shape[:2])
        self.count, self.overlap = len(self._tiles), tiled.overlap
        self._inner = tiled.model if len(self._tiles) == 1 else tiled.model.calibrate(self._prepare(sample))

    @classmethod
    def at(cls, model: NucleusModel, image: LazyImage, scale: float, skip_glass: bool) -> TileLooking:
        """Returns the prediction of the tiles by a model at a scale that is known; see `predict_large`."""
        tiled = at_factor(model.model, scale) if isinstance(model, AutoScale) else _at_own_scale(model)[0]
        return cls(tiled, image, skip_glass, image.sample())

    def look_at(self, numbers: Iterable[int]) -> Iterator[tuple[int, list[Region], list[Part]]]:
        """Looks at tiles one after the other; yields the number of each with the result of `look`."""
        for number in numbers:
            yield number, *self.look(number)

    def look(self, number: int) -> tuple[list[Region], list[Part]]:
        """Looks at a tile.

        Args:
            number: Index of the tile.

        Returns:
            The tile, or those that it was divided into, in pixels of the image, and their nuclei; none of empty glass.
        """
        y1, x1, y2, x2 = self._tiles[number]
        if self._skip_glass:
            glance = self._image.glance(y1, y2, x1, x2)
            if glance is not None and is_glass(*glance):
                return [], []
        pixels = self._image.region(y1, y2, x1, x2)
        if self._skip_glass and is_glass(pixels):
            return [], []
        regions: list[Region] = []
        parts: list[Part] = []
        found = self._tiled.look(self._inner, self._prepare(pixels), (0, 0, y2 - y1, x2 - x1))
        for (top, left, bottom, right), prediction in found:
            regions.append((top + y1, left + x1, bottom + y1, right + x1))
            parts += find_parts(prediction, regions[-1], self._image.shape[:2])
        return regions, parts


def _preparation(config: PredictionSettings, sample: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the preprocessing of tiles, with what depends on the whole image taken from a sample."""
    if config.CLAHE:
        raise ValueError("CLAHE equalises the whole image, which is read by tiles here: switch it off (CLAHE=False)")
    levels = Stretch(*config.STRETCH_QUANTILES).levels(sample) if config.STRETCH else None
    return lambda image: image if levels is None else levels[image]


def _bands(nuclei: Sequence[Nucleus], height: int, width: int) -> Iterator[np.ndarray]:
    """Yields the label image, some rows at a time."""
    within: list[list[int]] = [[] for _ in range(-(-height // _BAND))]
    for number, nucleus in enumerate(nuclei):
        for band in range(int(nucleus.box[0]) // _BAND, (int(nucleus.box[2]) - 1) // _BAND + 1):
            within[band].append(number)
    for band, numbers in enumerate(within):
        labels = np.zeros((min(_BAND, height - band * _BAND), width), np.int32)
        paint(labels, (band * _BAND, 0), nuclei, numbers)
        yield labels


def _plan(model: Tiles, scale: float, image: LazyImage, skip_glass: bool, identity: str | None) -> dict[str, object]:
    """Returns all that the nuclei of tiles depend on, as JSON can hold it."""
    status = image.path.stat()
    settings = json.dumps(model.config.to_dict(), default=str, sort_keys=True)
    return {
        "image": str(image.path.resolve()),
        "bytes": status.st_size,
        "modified": status.st_mtime_ns,
        "choice": image.planes.described(),
        "level": image.level,
        "shape": list(image.shape),
        "tiles": [model.side, model.overlap],
        "scale": scale,
        "skip_glass": skip_glass,
        "model": [type(model.model).__name__, hashlib.sha256(settings.encode()).hexdigest(), identity],
    }


class _Store:
    """Folder with the nuclei of each tile.

    Args:
        folder: The folder; one of another plan is emptied.
        plan: All that the nuclei depend on.
    """

    def __init__(self, folder: Path, plan: dict[str, object]) -> None:
        self.folder = folder
        note = folder / PLAN_FILE
        text = json.dumps(plan, indent=2, sort_keys=True) + "\n"
        if not (note.is_file() and note.read_text(encoding="utf-8", errors="replace") == text):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            write_text(note, text)

    def has(self, number: int) -> bool:
        """Returns True if a tile is done; a file that cannot be read is removed."""
        path = self._path(number)
        if not path.is_file():
            return False
        try:
            with np.load(path, allow_pickle=False) as data:
                return "tiles" in data and data["lengths"].sum() == len(data["bits"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            path.unlink()
            return False

    def write(self, number: int, tiles: Sequence[Region], parts: Sequence[Part]) -> None:
        """Writes the nuclei of a tile.

        Args:
            number: Index of the tile.
            tiles: The tile, or those that it was divided into; none for empty glass.
            parts: Nuclei of the tile.
        """
        places = {tile: index for index, tile in enumerate(tiles)}
        with atomic_path(self._path(number)) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(
                file,
                tiles=np.array(tiles, np.int64).reshape(-1, 4),
                boxes=np.array([part.box for part in parts], np.int64).reshape(-1, 4),
                bits=np.frombuffer(b"".join(part.bits for part in parts), np.uint8),
                lengths=np.array([len(part.bits) for part in parts], np.int64),
                areas=np.array([part.area for part in parts], np.int64),
                scores=np.array([part.score for part in parts], np.float64),
                clearances=np.array([part.clearance for part in parts], np.float64),
                places=np.array([places[part.tile] for part in parts], np.int64),
            )

    def read(self, numbers: Sequence[int]) -> tuple[list[Region], list[Part], int]:
        """Reads the nuclei of tiles.

        Args:
            numbers: Indices of the tiles.

        Returns:
            The tiles that were predicted, their nuclei, and the number of tiles that are empty glass.
        """
        regions: list[Region] = []
        parts: list[Part] = []
        glass = 0
        for number in numbers:
            with np.load(self._path(number), allow_pickle=False) as data:
                tiles = [tuple(tile) for tile in data["tiles"].tolist()]
                bits, ends = data["bits"].tobytes(), np.cumsum(data["lengths"]).tolist()
                columns = (data["boxes"], data["areas"].tolist(), data["scores"].tolist())
                places = data["places"].tolist()
                rows = zip(*columns, data["clearances"].tolist(), places, [0, *ends], ends, strict=False)
                parts += [
                    Part(box.copy(), bits[start:end], area, score, clearance, tiles[place])
                    for box, area, score, clearance, place, start, end in rows
                ]
            regions += tiles
            glass += not tiles
        return regions, parts, glass

    def remove(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06}.npz"
