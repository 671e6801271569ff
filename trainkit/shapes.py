"""Shapes of a network's inputs: rounded, so that images of many sizes share few compiled graphs. Needs no Keras."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shapes:
    """Rule by which images are padded and divided into batches.

    Attributes:
        steps: Most sides between a power of two and the next that images are padded to, a power of two.
        halved: True to put what is left of a full batch into batches of powers of two, False into batches of one.
        single: True to put every image into a batch of its own.

    Examples:
        >>> [MANY.side(length, 32) for length in (20, 300, 520, 1040)]
        [32, 320, 576, 1152]
        >>> [FEW.side(length, 32) for length in (20, 300, 520, 1040)]
        [32, 384, 768, 1536]
        >>> MANY.batches(7, most=4), FEW.batches(7, most=4), FEWEST.batches(3, most=4)
        ([4, 2, 1], [4, 1, 1, 1], [1, 1, 1])
    """

    steps: int
    halved: bool
    single: bool = False

    def side(self, length: int, stride: int) -> int:
        """Returns the side that an image's side is padded to.

        It is a multiple of the stride, and where those are many, of a part of the next power of two.

        Args:
            length: Side of the image in pixels, 1 or more.
            stride: Stride of the network in pixels, a power of two.

        Returns:
            Side in pixels, `length` or more.
        """
        octave = 1 << (length - 1).bit_length()
        step = max(stride, octave // (2 * self.steps))
        return -(-length // step) * step

    def batches(self, count: int, most: int) -> list[int]:
        """Divides a number of images of one size into batches.

        Args:
            count: Number of images.
            most: Images of the largest batch, 1 or more.

        Returns:
            Number of images of each batch.
        """
        sizes, most = [], 1 if self.single else most
        while count:
            rest = 1 << (count.bit_length() - 1) if self.halved else 1
            sizes.append(most if count >= most else rest)
            count -= sizes[-1]
        return sizes


# For networks that compute any shape.
MANY = Shapes(steps=8, halved=True)
# For those that are compiled for each, which takes seconds; the last where batches save no time.
FEW, FEWEST = Shapes(steps=2, halved=False), Shapes(steps=2, halved=False, single=True)
