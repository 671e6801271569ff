"""The nuclei of an image's tiles in a folder, from which a prediction that was interrupted goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nucleus.models.limits import Limit
from nucleus.models.parts import Part, Region
from trainkit.files import atomic_path, write_text

PLAN_FILE = "plan.json"


class Seen(NamedTuple):
    """The nuclei of a tile.

    Attributes:
        tiles: The tile, or those that it was divided into; none for empty glass.
        parts: Its nuclei.
        limits: Limits of the model that were reached in it.
    """

    tiles: list[Region]
    parts: list[Part]
    limits: list[Limit]


class TileStore:
    """Folder with the nuclei of each tile.

    Args:
        folder: The folder; one of another plan is emptied.
        plan: All that the nuclei depend on, as JSON can hold it.
    """

    def __init__(self, folder: Path, plan: dict[str, object]) -> None:
        self.folder = folder
        note = folder / PLAN_FILE
        text = json.dumps(plan, indent=2, sort_keys=True) + "\n"
        if not (note.is_file() and note.read_text(encoding="utf-8", errors="replace") == text):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            write_text(note, text)

    def remember(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Returns what was found out in an earlier call; otherwise, or where its file is damaged, finds it out now.

        Args:
            name: Name of the file, without suffix.
            make: Function that finds it out, as JSON can hold it.
        """
        path = self.folder / f"{name}.json"
        if path.is_file():
            with suppress(ValueError, RecursionError):
                known = json.loads(path.read_bytes())
                if isinstance(known, dict):
                    return known
        write_text(path, json.dumps(make()) + "\n")
        return json.loads(path.read_bytes())

    def write(self, number: int, seen: Seen) -> None:
        """Writes the nuclei of a tile.

        Args:
            number: Index of the tile.
            seen: Its nuclei.

        Raises:
            OSError: The file cannot be written.
        """
        parts, places = seen.parts, {tile: index for index, tile in enumerate(seen.tiles)}
        limits = json.dumps([[*limit[:2], list(limit.shape)] for limit in seen.limits]).encode()
        with atomic_path(self._path(number)) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(
                file,
                tiles=np.array(seen.tiles, np.int64).reshape(-1, 4),
                boxes=np.array([part.box for part in parts], np.int64).reshape(-1, 4),
                bits=np.frombuffer(b"".join(part.bits for part in parts), np.uint8),
                lengths=np.array([len(part.bits) for part in parts], np.int64),
                areas=np.array([part.area for part in parts], np.int64),
                scores=np.array([part.score for part in parts], np.float64),
                clearances=np.array([part.clearance for part in parts], np.float64),
                places=np.array([places[part.tile] for part in parts], np.int64),
                limits=np.frombuffer(limits, np.uint8),
            )

    def read(self, number: int) -> Seen | None:
        """Reads the nuclei of a tile.

        Args:
            number: Index of the tile.

        Returns:
            The nuclei; None if the tile is not done, or its file is damaged.
        """
        try:
            with np.load(self._path(number), allow_pickle=False) as data:
                return _seen(data)
        except Exception:  # A damaged archive can fail with any error.
            return None

    def remove(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06}.npz"


def _seen(data: Mapping[str, np.ndarray]) -> Seen:
    tiles: list[Region] = [tuple(tile) for tile in data["tiles"].tolist()]
    bits, ends = data["bits"].tobytes(), np.cumsum(data["lengths"]).tolist()
    if len(bits) != (ends[-1] if ends else 0):
        raise ValueError("the masks are incomplete")
    columns = (data[name].tolist() for name in ("areas", "scores", "clearances", "places"))
    parts = [
        Part(box.copy(), bits[start:end], area, score, clearance, tiles[place])
        for box, area, score, clearance, place, start, end in zip(
            data["boxes"], *columns, [0, *ends[:-1]] if ends else [], ends, strict=True
        )
    ]
    limits = [Limit(name, value, tuple(shape)) for name, value, shape in json.loads(data["limits"].tobytes())]
    return Seen(tiles, parts, limits)
