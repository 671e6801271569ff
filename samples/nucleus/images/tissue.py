"""Empty glass in bright-field images, where no nucleus is to be looked for."""

from __future__ import annotations

import numpy as np

# Glass is at least this bright in each colour, and what lies on it differs by more than this in one of them.
_LEAST_GLASS, _CONTRAST = 180, 25
# Pixels that may differ without being a nucleus: dust, and the noise of compression.
_DUST = 30


def is_glass(image: np.ndarray, downsampling: float = 1.0) -> bool:
    """Returns True if a part of a bright-field image is empty glass.

    It is if its median colour is bright and at most 30 pixels differ from it by more than 25 levels in a colour: fewer
    than the smallest nucleus has. An image on a dark ground is never glass. In a version of the image that is smaller,
    nuclei have fewer pixels and less contrast, so that 12 levels and no pixel are the limits.

    Args:
        image: uint8 `[H, W, 3]` RGB.
        downsampling: Factor by which it is smaller than the image that is predicted.

    Examples:
        >>> glass = np.full((64, 64, 3), 240, np.uint8)
        >>> is_glass(glass)
        True
        >>> glass[20:30, 20:30] = 120, 60, 140
        >>> is_glass(glass)
        False
    """
    ground = np.median(image[::4, ::4].reshape(-1, 3), axis=0)
    if ground.min() < _LEAST_GLASS:
        return False
    contrast, dust = (_CONTRAST, _DUST) if downsampling <= 1 else (_CONTRAST // 2, 0)
    marked = np.abs(image - ground.astype(np.int16)) > contrast
    return int(np.count_nonzero(marked.any(axis=-1))) <= dust
