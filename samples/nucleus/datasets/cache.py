"""Caches of data sets: decoded arrays in memory, label images on disk."""

from __future__ import annotations

import glob
import hashlib
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path

import cv2
import numpy as np

from trainkit.files import write_bytes

FOLDER_NAME = ".label_cache"

_log = logging.getLogger(__name__)
# Part of every key; changed when the meaning of the files changes, so that older ones are no longer read.
_FORMAT = b"label image, first mask keeps, 1"


class ArrayCache:
    """Thread-safe least-recently-used cache of arrays.

    Args:
        limit: Largest number of bytes of all arrays together; 0 keeps none.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self._arrays: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Returns the array of a key, computing and caching it if necessary.

        Args:
            key: Key of the array.
            make: Function that computes the array. It is called outside the lock, so two threads may both call it.

        Returns:
            A copy of the array, which may be written into.
        """
        with self._lock:
            array = self._arrays.get(key)
            if array is not None:
                self._arrays.move_to_end(key)
        if array is None:
            array = make()
            self._keep(key, array)
        return array.copy()

    def _keep(self, key: Hashable, array: np.ndarray) -> None:
        if array.nbytes > self.limit:
            return
        with self._lock:
            replaced = self._arrays.pop(key, None)
            self._bytes += array.nbytes - (0 if replaced is None else replaced.nbytes)
            self._arrays[key] = array
            while self._bytes > self.limit:
                self._bytes -= self._arrays.popitem(last=False)[1].nbytes

    def __getstate__(self) -> dict:
        # Data sets are pickled for worker processes; locks cannot be, and arrays need not.
        return {"limit": self.limit}

    def __setstate__(self, state: dict) -> None:
        self.__init__(state["limit"])


class LabelCache:
    """Cache of label images on disk, each keyed by a hash of its source files.

    The hash covers the names, sizes and modification times of the image file and its mask files, so a label image is
    computed again and replaced when a mask is edited, added, removed or renamed. Files are lossless PNGs: 16-bit grey
    up to 65,535 labels, and above it the four bytes of an int32 as RGBA.

    Args:
        folder: Folder of the files; created when needed.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)

    def get(self, name: str, sources: Iterable[Path], make: Callable[[], np.ndarray]) -> np.ndarray:
        """Returns the label image of some source files, computing and storing it if necessary.

        Args:
            name: Unique name of the image within this cache; a safe file name.
            sources: Files that the label image depends on.
            make: Function that computes the label image.

        Returns:
            int32 [H, W].
        """
        path = self.folder / f"{name}-{content_key(sources)}.png"
        labels = _read(path)
        if labels is None:
            labels = make()
            _write(path, labels)
            for stale in self.folder.glob(f"{glob.escape(name)}-{'[0-9a-f]' * 16}.png"):
                if stale != path:
                    stale.unlink(missing_ok=True)
        return labels


def content_key(sources: Iterable[Path]) -> str:
    """Returns a hash, 16 hexadecimal digits, of the names, sizes and modification times of files."""
    digest = hashlib.sha256(_FORMAT)
    for path in sources:
        status = path.stat()
        digest.update(f"\0{path.name}\0{status.st_size}\0{status.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


def label_cache_folder(root: Path) -> Path:
    """Returns the folder for the cached label images of a data set.

    Args:
        root: The data set's folder.

    Returns:
        `<root>/.label_cache` if it is writable, else a folder for this data set alone in the user's cache
        (`$XDG_CACHE_HOME`, by default `~/.cache`).
    """
    folder = root / FOLDER_NAME
    if os.access(folder if folder.is_dir() else root, os.W_OK):
        return folder
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    own = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
    _log.info("%s cannot be written; its label images are kept in the user's cache", root)
    return user_cache / "keras-nucleus" / "labels" / own


def _read(path: Path) -> np.ndarray | None:
    """Returns the stored label image; None if it is missing or damaged."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if pixels is None:
        _log.warning("%s is damaged and will be replaced", path)
        return None
    if pixels.ndim == 3:
        return pixels.view(np.int32)[..., 0]
    return pixels.astype(np.int32)


def _write(path: Path, labels: np.ndarray) -> None:
    if labels.max(initial=0) <= np.iinfo(np.uint16).max:
        pixels = labels.astype(np.uint16)
    else:
        pixels = np.ascontiguousarray(labels, np.int32)[..., None].view(np.uint8)
    write_bytes(path, cv2.imencode(".png", pixels)[1].tobytes())
