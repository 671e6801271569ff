"""Errors, checks and the OpenCV decoder that all formats share."""

from __future__ import annotations

import os
from typing import Literal, NamedTuple

import cv2
import numpy as np

# Use of the pixels: an image is read as it is shown, a mask or labels as the stored numbers.
Meaning = Literal["image", "mask", "labels"]
# Environment variable with the largest number of pixels of an image that is decoded whole, and the number without it.
# It is a variable so that it holds for the processes that a run starts, too.
LIMIT_VARIABLE = "NUCLEUS_MAX_PIXELS"
DEFAULT_LIMIT = 2**29
# Rows whose colours are put in order at once.
_ROWS = 64


class ImageFileError(ValueError):
    """An image file that cannot be used; the message names the file and the cause."""


class RawImage(NamedTuple):
    """Samples of an image as its file stores them, for measurements.

    Attributes:
        pixels: `[H, W, C]` of the file's own sample type.
        channels: Names of the C channels; "" for one without a name.
        shown: Indices of the channels that the image for a network is made of: one (grey) or three (red, green, blue).
        pixel_size: Side of a pixel in µm; None where it is not known.
    """

    pixels: np.ndarray
    channels: tuple[str, ...]
    shown: tuple[int, ...]
    pixel_size: float | None = None

    def visible(self) -> np.ndarray:
        """Returns the samples that the image for a network is made of, `[H, W]` or `[H, W, 3]`."""
        if len(self.shown) == 1:
            return self.pixels[..., self.shown[0]]
        return self.pixels if self.shown == tuple(range(self.pixels.shape[2])) else self.pixels[..., list(self.shown)]


def decode_with_opencv(data: bytes) -> np.ndarray:
    """Decodes a file with OpenCV: [H, W] grey or [H, W, 3] RGB, alpha dropped."""
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ImageFileError(f"cannot be decoded ({error.err or error})") from error
    if pixels is None:
        raise ImageFileError("cannot be decoded: the file is truncated or damaged")
    if pixels.ndim == 2:
        return pixels
    # IMREAD_UNCHANGED gives BGR or BGRA; grey with alpha comes as BGRA too.
    if pixels.shape[2] == 4:
        return cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB)
    # In place: a second picture would double the memory.
    for top in range(0, len(pixels), _ROWS):
        pixels[top : top + _ROWS] = cv2.cvtColor(pixels[top : top + _ROWS], cv2.COLOR_BGR2RGB)
    return pixels


def check_size(height: int, width: int) -> None:
    """Refuses an image without pixels."""
    if height <= 0 or width <= 0:
        raise ImageFileError(f"the image has no pixels (height {height}, width {width})")


def check_limit(height: int, width: int, way_out: str = "") -> None:
    """Refuses an image that is too large to be decoded whole.

    Args:
        height: Height in pixels.
        width: Width in pixels.
        way_out: Text that says how the image could be read otherwise; "" for none.
    """
    limit = pixel_limit()
    if limit and height * width > limit:
        raise ImageFileError(
            f"the image has {width} x {height} pixels, above the limit of {limit:,} for an image that is decoded "
            f"whole{way_out and '; ' + way_out}. Raise the limit with --max-pixels=N or the environment variable "
            f"{LIMIT_VARIABLE}=N (0: no limit)"
        )


def pixel_limit() -> int:
    """Returns the largest number of pixels of an image that is decoded whole; 0 for no limit.

    Raises:
        ValueError: The environment variable holds no whole number.
    """
    text = os.environ.get(LIMIT_VARIABLE, "").strip()
    if text and not text.isdecimal():
        raise ValueError(f"{LIMIT_VARIABLE} must be a whole number from 0 on. Received: {text!r}")
    return int(text) if text else DEFAULT_LIMIT


def set_pixel_limit(pixels: int) -> None:
    """Sets the largest number of pixels of an image that is decoded whole, in this process and those that it starts.

    Args:
        pixels: Number of pixels; 0 for no limit.
    """
    os.environ[LIMIT_VARIABLE] = str(pixels)
