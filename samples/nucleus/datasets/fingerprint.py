"""What tells the images of one run from those of another, noted beside what was made of them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from trainkit.files import write_text

IMAGES_FILE = "images.json"
_CHUNK = 2**20

_log = logging.getLogger(__name__)


def fingerprint(infos: Iterable[Mapping[str, Any]]) -> str:
    """Returns what changes with the images, and stays the same when the data set moves: their number and a hash.

    The hash is over each image's id and file content, and the names and sizes of the files with its masks, of which a
    data set may have many thousands. The order of the images does not matter.

    Args:
        infos: Entries of `NucleusDataset.image_info`.

    Raises:
        OSError: A file cannot be read.
    """
    lines = sorted(_line(info) for info in infos)
    return f"{len(lines)} images, {hashlib.sha256(json.dumps(lines).encode()).hexdigest()[:16]}"


def note_images(folder: Path, images: Mapping[str, str]) -> None:
    """Writes which images something is made of into its folder.

    Args:
        folder: Of it.
        images: What they are for -> `fingerprint`.

    Raises:
        OSError: The file cannot be written.
    """
    write_text(folder / IMAGES_FILE, json.dumps(images, indent=2) + "\n")


def check_images(folder: Path, images: Mapping[str, str]) -> None:
    """Makes sure that what is in a folder was made of the same images; warns where that was not noted.

    Args:
        folder: Where `note_images` wrote.
        images: As there.

    Raises:
        ValueError: It was made of others, or the note cannot be read.
    """
    path = folder / IMAGES_FILE
    if not path.is_file():
        _log.warning("%s: of which images it was made is not known (it has no %s); it goes on", folder, IMAGES_FILE)
        return
    try:
        noted = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: no note of images ({error})") from error
    changed = [name for name in {**noted, **images} if noted.get(name) != images.get(name)]
    if changed:
        name = changed[0]
        raise ValueError(
            f"{path}: made of other images than those given now ({name}: {noted.get(name)} there, {images.get(name)} "
            f"now). Choose another output folder."
        )


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _line(info: Mapping[str, Any]) -> list[Any]:
    image, truth = Path(info["path"]), info.get("truth")
    status = image.stat()
    masks = [] if truth is None else [[path.name, path.stat().st_size] for path in truth.files()]
    return [info["id"], _content(image, status.st_size, status.st_mtime_ns), masks]


@cache
def _content(path: Path, size: int, modified: int) -> str:
    """Returns the hash of a file, which is read once as long as it stays as it is."""
    return sha256(path)
