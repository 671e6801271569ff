"""Fingerprints of files and of the images of a data set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from trainkit.files import file_digest

# The note of the images that a folder was made from; see `nucleus.datasets.provenance`.
IMAGES_FILE = "images.json"


def fingerprint(infos: Iterable[Mapping[str, Any]]) -> str:
    """Returns a text that changes with the images and stays the same when the data set moves.

    It is the number of images and a hash over each image's id and file content, and the names and sizes of the files
    with its masks, of which a data set may have many thousands. The order of the images does not matter.

    Args:
        infos: Entries of `NucleusDataset.image_info`.

    Raises:
        OSError: A file cannot be read.
    """
    lines = sorted(_line(info) for info in infos)
    return f"{len(lines)} images, {hashlib.sha256(json.dumps(lines).encode()).hexdigest()[:16]}"


def _line(info: Mapping[str, Any]) -> list[Any]:
    image, truth = Path(info["path"]), info.get("truth")
    status = image.stat()
    masks = [] if truth is None else [[path.name, path.stat().st_size] for path in truth.files()]
    return [info["id"], _content(image, status.st_size, status.st_mtime_ns), masks]


@cache
def _content(path: Path, size: int, modified: int) -> str:
    """Returns the hash of a file, which is read once as long as its size and time of change stay the same."""
    return file_digest(path, "sha256")
