"""Prediction of whole images of any size with a network whose inputs are multiples of its stride.

The network is a function on NumPy arrays, so that whatever computes it, Keras or ONNX Runtime, gets the same pixels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from trainkit.sample_checks import check_images
from trainkit.shapes import MANY, Shapes
from unet.config import UNetConfig
from unet.resize import resize_image, resize_probabilities

# Network: float32 [B, h, w, C] in 0..255, h and w multiples of its stride, to probabilities [B, h, w, channels].
Network = Callable[[np.ndarray], np.ndarray]
# Most pixels and images of a batch. Batches keep a GPU busy with small images and must not fill its memory with large
# ones: 64 features of a megapixel, the first level of the original U-Net, take 256 MB. A larger image goes alone.
BATCH_PIXELS = 1 << 20
BATCH_IMAGES = 8


def predict_channels(
    run: Network, images: Sequence[np.ndarray], config: UNetConfig, shapes: Shapes = MANY
) -> list[np.ndarray]:
    """Predicts the channels of images, each at its own size, or at IMAGE_SIZE if INFERENCE_MODE says so.

    Args:
        run: Network of the configuration.
        images: uint8 or float `[H, W, C]` each, RGB in 0 to 255, of any sizes.
        config: Configuration with IMAGE_CHANNEL_COUNT, INFERENCE_MODE, IMAGE_SIZE and the network's stride.
        shapes: Rule for the shapes of the network's inputs.

    Returns:
        For every image float32 `[H, W, channels]` in 0..1; `config.channels` names the channels.

    Raises:
        ValueError: An image has no pixels or the wrong channels.
    """
    checked = check_images(images, config.IMAGE_CHANNEL_COUNT)
    if config.INFERENCE_MODE == "resize":
        return predict_resized(run, checked, config.IMAGE_SIZE, shapes)
    return predict_probabilities(run, checked, config.stride, shapes)


def padded_side(length: int, stride: int) -> int:
    """Returns the side that an image's side is padded to, at most an eighth more from 16 strides on.

    Args:
        length: Side of the image in pixels, 1 or more.
        stride: Stride of the network in pixels, a power of two.

    Returns:
        Side in pixels, `length` or more; see `trainkit.shapes.Shapes.side`.
    """
    return MANY.side(length, stride)


def predict_probabilities(
    run: Network, images: Sequence[np.ndarray], stride: int, shapes: Shapes = MANY
) -> list[np.ndarray]:
    """Predicts images at their own sizes; images of one padded size share batches.

    An image is mirrored at its edges until its sides suit the network, equally on both, and the prediction is cut
    back (Rocha de Andrade, "Nuclei detection based on fully convolutional networks", section 5.6). An image smaller
    than the missing margin is mirrored over and over.

    Args:
        run: Network, from float32 `[B, h, w, C]`, h and w multiples of the stride, to probabilities
            `[B, h, w, channels]`.
        images: `[H, W, C]` each, 0 to 255, of any sizes.
        stride: Stride of the network in pixels, a power of two.
        shapes: Rule for the shapes of the network's inputs.

    Returns:
        float32 `[H, W, channels]` for each image.
    """
    margins = [_margins(image, stride, shapes) for image in images]
    padded = [np.pad(image, (*sides, (0, 0)), mode="symmetric") for image, sides in zip(images, margins, strict=True)]
    found: dict[int, np.ndarray] = {}
    for index, probabilities in _run_batches(run, padded, shapes):
        (top, _), (left, _) = margins[index]
        height, width = images[index].shape[:2]
        found[index] = np.ascontiguousarray(probabilities[top : top + height, left : left + width])
    return [found[index] for index in range(len(images))]


def predict_resized(run: Network, images: Sequence[np.ndarray], side: int, shapes: Shapes = MANY) -> list[np.ndarray]:
    """Predicts images brought to a square, as training with IMAGE_MODE "resize" shows them to the network.

    Args:
        run: Network, from float32 `[B, side, side, C]` to probabilities `[B, side, side, channels]`.
        images: `[H, W, C]` each, 0 to 255, of any sizes.
        side: Side of the square in pixels, a multiple of the network's stride.
        shapes: Rule for the sizes of batches.

    Returns:
        float32 `[H, W, channels]` for each image: the prediction of the square brought back to the image's size.
    """
    found = dict(_run_batches(run, [resize_image(image, side) for image in images], shapes))
    return [resize_probabilities(found[index], image.shape[:2]) for index, image in enumerate(images)]


def _margins(image: np.ndarray, stride: int, shapes: Shapes) -> list[tuple[int, int]]:
    """Returns the pixels to add (above, below) and (left, right) of an image."""
    missing = [shapes.side(length, stride) - length for length in image.shape[:2]]
    return [(length // 2, length - length // 2) for length in missing]


def _run_batches(run: Network, images: Sequence[np.ndarray], shapes: Shapes) -> Iterator[tuple[int, np.ndarray]]:
    """Runs a network on images, those of one size together.

    A network that is compiled for each shape of its input is compiled for few sizes of batches, at most 1 +
    log2(BATCH_IMAGES), however many images there are.

    Args:
        run: Network, from float32 `[B, h, w, C]` to probabilities `[B, h, w, channels]`.
        images: `[h, w, C]` each.
        shapes: Rule for the sizes of batches.

    Yields:
        The position of an image and its float32 `[h, w, channels]`, not in the order of the images.
    """
    by_size: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, image in enumerate(images):
        by_size[image.shape].append(index)
    for (height, width, _), indices in by_size.items():
        most = max(1, min(BATCH_IMAGES, BATCH_PIXELS // (height * width)))
        for count in shapes.batches(len(indices), most):
            batch, indices = indices[:count], indices[count:]
            inputs = np.stack([images[index] for index in batch]).astype(np.float32)
            outputs = np.asarray(run(inputs), np.float32)
            yield from zip(batch, outputs, strict=True)
