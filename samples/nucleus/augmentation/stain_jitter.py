"""Random variation of a section's stains: haematoxylin, eosin and the residual, as between laboratories."""

from __future__ import annotations

import numpy as np

# Optical density of each stain in red, green and blue: haematoxylin, eosin, DAB (Ruifrok and Johnston, "Quantification
# of histochemical staining by color deconvolution", 2001, section "Results").
_STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]], np.float32)
_STAINS /= np.linalg.norm(_STAINS, axis=1, keepdims=True)
_UNMIX = np.linalg.inv(_STAINS).astype(np.float32)
# Optical density of every level; a level of 0 would let no light through at all.
_DENSITY = -np.log(np.maximum(np.arange(256), 1) / 255.0).astype(np.float32)


def jitter_stains(image: np.ndarray, rng: np.random.Generator, factor: float = 0.2, offset: float = 0.05) -> np.ndarray:
    """Scales and shifts the amount of each stain at random.

    Tellez et al., "Whole-slide mitosis detection in H&E breast histology using PHH3 as a reference to train distilled
    stain-invariant convolutional networks", 2018, section III-C, on the optical density of bright-field images.

    Args:
        image: uint8 [H, W, 3] RGB.
        rng: Generator of every random choice.
        factor: Largest relative change; amounts are multiplied by 1 - factor to 1 + factor.
        offset: Largest value added to or subtracted from an amount, in units of optical density.

    Returns:
        uint8 [H, W, 3] RGB.
    """
    scale = rng.uniform(1 - factor, 1 + factor, 3).astype(np.float32)
    shift = rng.uniform(-offset, offset, 3).astype(np.float32)
    # One matrix takes the densities to amounts, scales these, and mixes them again.
    densities = _DENSITY[image] @ (_UNMIX @ (scale[:, None] * _STAINS)) + shift @ _STAINS
    return np.rint(255.0 * np.exp(-np.maximum(densities, 0.0))).astype(np.uint8)
