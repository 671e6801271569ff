"""Caches of data sets: decoded arrays in memory, label images on disk."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from nucleus.images.decoding.png import SIGNATURE, check_chunks
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
        folders: Folders of the files, created when needed. A file is written to the first of them that can be written,
            or else kept in memory; a warning says so.
    """

    def __init__(self, *folders: str | os.PathLike):
        self.folders = tuple(map(Path, folders))
        # Contents of the files that no folder took.
        self._kept: dict[str, bytes] = {}

    def get(self, name: str, sources: Iterable[Path], make: Callable[[], np.ndarray]) -> np.ndarray:
        """Returns the label image of some source files, computing and storing it if necessary.

        Args:
            name: Unique name of the image within this cache; a safe file name.
            sources: Files that the label image depends on.
            make: Function that computes the label image.

        Returns:
            int32 [H, W].
        """
        file = f"{name}-{content_key(sources)}.png"
        labels = self._read(file)
        if labels is None:
            labels = make()
            self._write(name, file, _encode(labels))
        return labels

    def _read(self, file: str) -> np.ndarray | None:
        if file in self._kept:
            return _decode(self._kept[file])
        stored = (_read(folder / file) for folder in self.folders)
        return next((labels for labels in stored if labels is not None), None)

    def _write(self, name: str, file: str, data: bytes) -> None:
        failures: list[tuple[Path, str]] = []
        for folder in self.folders:
            try:
                write_bytes(folder / file, data)
            except OSError as error:
                failures.append((folder, error.strerror or str(error)))
                continue
            for stale in folder.glob(f"{glob.escape(name)}-{'[0-9a-f]' * 16}.png"):
                if stale.name != file:
                    with contextlib.suppress(OSError):
                        stale.unlink()
            place = str(folder)
            break
        else:
            self._kept[file] = data
            place = "memory until the program ends"
        for folder, cause in failures:
            _warn_of(folder, cause, place)

    def __getstate__(self) -> dict:
        # Data sets are pickled for worker processes, which keep what they make themselves.
        return {"folders": self.folders, "_kept": {}}


@cache
def _warn_of(folder: Path, cause: str, place: str) -> None:
    """Warns, once, of a folder that cannot be written."""
    _log.warning("%s: label images cannot be stored here (%s); they are kept in %s", folder, cause, place)


def content_key(sources: Iterable[Path]) -> str:
    """Returns a hash, 16 hexadecimal digits, of the names, sizes and modification times of files."""
    digest = hashlib.sha256(_FORMAT)
    for path in sources:
        status = path.stat()
        digest.update(f"\0{path.name}\0{status.st_size}\0{status.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


def label_cache_folders(root: Path) -> tuple[Path, ...]:
    """Returns the folders for the cached label images of a data set, the preferred one first.

    Args:
        root: The data set's folder.

    Returns:
        `<root>/.label_cache`, and a folder for this data set alone in the user's cache (`$XDG_CACHE_HOME`, by default
        `~/.cache`) for a data set that cannot be written to.
    """
    own = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    return root / FOLDER_NAME, user_cache / "keras-nucleus" / "labels" / own


def _read(path: Path) -> np.ndarray | None:
    """Returns the stored label image; None if it is missing, cannot be read or is damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    try:
        return _decode(data)
    except ValueError as error:
        _log.warning("%s is damaged and will be replaced (%s)", path, error)
        return None


def _decode(data: bytes) -> np.ndarray:
    """Returns the label image of a stored file; raises ValueError if it is no file of `_encode`."""
    if not data.startswith(SIGNATURE):
        raise ValueError("no PNG")
    check_chunks(data)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ValueError(error.err or str(error)) from error
    if pixels is None:
        raise ValueError("cannot be decoded")
    if pixels.dtype == np.uint16 and pixels.ndim == 2:
        return pixels.astype(np.int32)
    if pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 4:
        return pixels.view(np.int32)[..., 0]
    raise ValueError(f"{pixels.dtype} of shape {pixels.shape}")


def _encode(labels: np.ndarray) -> bytes:
    if labels.max(initial=0) <= np.iinfo(np.uint16).max:
        pixels = labels.astype(np.uint16)
    else:
        pixels = np.ascontiguousarray(labels, np.int32)[..., None].view(np.uint8)
    return cv2.imencode(".png", pixels)[1].tobytes()
