"""Lets `import imgaug` work under NumPy 2 wherever it stands in a script.

The installed package brings `keras_nucleus_imgaug.pth`, through which Python imports this module when it starts.
Scripts written for matterport's Mask_RCNN import imgaug before anything of ours could help, so this waits for that
import, has `numpy.sctypes` restored and is done. Neither NumPy nor imgaug is imported before a program does.
"""

from __future__ import annotations

import sys
from typing import Any


class _BeforeImgaug:
    """A finder that finds nothing; it acts when imgaug is asked for, once."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name == "imgaug" and self in sys.meta_path:
            sys.meta_path.remove(self)
            import trainkit.numpy_compat  # noqa: F401


def install() -> None:
    """Begins to wait for the import of imgaug."""
    if not any(isinstance(finder, _BeforeImgaug) for finder in sys.meta_path):
        sys.meta_path.insert(0, _BeforeImgaug())
