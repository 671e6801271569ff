"""Preprocessing of images for models, alike in training and in prediction."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Clahe:
    """Contrast limited adaptive histogram equalisation of an image's luminance (L of CIE Lab), a function of images.

    Zuiderveld, "Contrast Limited Adaptive Histogram Equalization", Graphics Gems IV (1994). Working on luminance
    evens out illumination and leaves the stain's hue alone. A grey image stays grey.

    Args:
        clip_limit: Largest height of a bin of a tile's histogram, in multiples of the mean height, above 0; larger
            values give more contrast and more noise.
        tile_grid: (rows, columns) of tiles, each equalised on its own and blended with its neighbours.

    Raises:
        ValueError: A setting is out of range.

    Examples:
        >>> from nucleus.datasets.dataset import shipped_data
        >>> from nucleus.images.reading import read_image
        >>> image = read_image(next(shipped_data().glob("stage1_train/*/images/*.png")))
        >>> equalised = Clahe(clip_limit=3.0)(image)
        >>> equalised.shape == image.shape, equalised.dtype
        (True, dtype('uint8'))
    """

    clip_limit: float = 2.0
    tile_grid: tuple[int, int] = (8, 8)

    def __post_init__(self) -> None:
        if not self.clip_limit > 0:
            raise ValueError(f"CLAHE's clip limit must be above 0; received {self.clip_limit!r}")
        if len(self.tile_grid) != 2 or any(int(tiles) != tiles or tiles < 1 for tiles in self.tile_grid):
            raise ValueError(f"CLAHE's tile grid must be two whole numbers from 1 on; received {self.tile_grid!r}")

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Equalises an image.

        Args:
            image: uint8 [H, W, 3] RGB.

        Raises:
            ValueError: The image is another array.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"CLAHE expects uint8 [H, W, 3]; received {image.dtype} {image.shape}")
        rows, columns = self.tile_grid
        equalise = cv2.createCLAHE(self.clip_limit, (int(columns), int(rows)))
        lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
        lab[..., 0] = equalise.apply(np.ascontiguousarray(lab[..., 0]))
        equalised = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
        if is_grey(image):
            # The 8-bit round trip through Lab is off by one in single channels; grey has one value for all three.
            equalised = np.repeat(equalised[..., 1:2], 3, axis=2)
        return equalised


def is_grey(image: np.ndarray) -> bool:
    """Returns True if the three channels of an image [H, W, 3] are equal."""
    return bool((image[..., 0] == image[..., 1]).all() and (image[..., 0] == image[..., 2]).all())
