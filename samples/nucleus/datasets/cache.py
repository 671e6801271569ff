"""Two caches for the data path: decoded arrays in memory, label images on disk."""

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

from trainkit.files import atomic_path

FOLDER_NAME = ".label_cache"

_log = logging.getLogger(__name__)
# Raised when what is stored under a key changes meaning, so that older files are not read any more.
_FORMAT = b"label image, first mask keeps, 1"


class ArrayCache:
    """Keeps the arrays used last, up to a number of bytes. Safe to share between threads.

    Args:
        limit: bytes that the arrays together may take; 0 keeps none.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self._arrays: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], np.ndarray]) -> np.ndarray:
        """The array of a key, made and kept if it is not there.

        Args:
            key: what the array is known by.
            make: makes the array; runs outside the lock, so two threads that miss together both run it.

        Returns:
            A copy of the array: callers may write into it.
        """
        with self._lock:
            array = self._arrays.get(key)
            if array is not None:
                self._arrays.move_to_end(key)
        if array is None:
            array = make()
            self._keep(key, array)
        return array.copy()

    def clear(self) -> None:
        """Forgets all arrays."""
        with self._lock:
            self._arrays.clear()
            self._bytes = 0

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
        # A dataset is pickled for worker processes: locks cannot go there, and arrays need not.
        return {"limit": self.limit}

    def __setstate__(self, state: dict) -> None:
        self.__init__(state["limit"])


class LabelCache:
    """Label images on disk, each under the identity of the files that it was made from.

    The identity is a hash over the names, sizes and modification times of the image file and its mask files, so a
    mask that is edited, added, removed or renamed makes the stored label image stale; it is then made anew and
    replaced. Files are lossless PNGs, 16-bit grey up to 65,535 labels and the four bytes of an int32 as RGBA above.

    Args:
        folder: where the files lie; made when needed.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)

    def get(self, name: str, sources: Iterable[Path], make: Callable[[], np.ndarray]) -> np.ndarray:
        """The label image made from some files, read from the cache or made and stored there.

        Args:
            name: names the image within this cache; a safe file name.
            sources: the files that the label image depends on.
            make: makes the label image.

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
    """16 hexadecimal digits that change when a file's name, size or modification time does."""
    digest = hashlib.sha256(_FORMAT)
    for path in sources:
        status = path.stat()
        digest.update(f"\0{path.name}\0{status.st_size}\0{status.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


def label_cache_folder(root: Path) -> Path:
    """Where the label images of a dataset are kept.

    Args:
        root: the dataset's folder.

    Returns:
        `<root>/.label_cache` where that can be written, else a folder of this dataset's own in the user's cache
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
    """The stored label image; None if there is none or it is damaged, which is then made anew like a stale one."""
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
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
