"""Mixing of training images: one takes on the colours of another of its data set, or copies of its nuclei."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nucleus.augmentation.colour_transfer import ColourStatistics, transfer_colour
from nucleus.augmentation.copy_paste import paste_nuclei
from nucleus.images.appearance import look

# Images that are drawn to find one that looks alike and has something that fits.
_TRIES = 3


class MixingSettings(Protocol):
    """The settings of a model's configuration that `Mixing` is made from; see `ApplicationSettings`."""

    COLOUR_TRANSFER: float
    COPY_PASTE: float
    COPY_PASTE_SHARE: float
    COPY_PASTE_TOUCHING: float


@dataclass(frozen=True)
class Mixing:
    """Probabilities and amounts of mixing; a callable that mixes one image with others.

    Attributes:
        colour_transfer: Probability, 0..1, that an image of a stained section takes on the colours of another.
        copy_paste: Probability, 0..1, that copies of other images' nuclei are pasted into an image.
        share: Largest number of pasted nuclei as a share of the image's own, 0..1; at least one nucleus.
        touching: Probability, 0..1, that a pasted nucleus touches another one.
    """

    colour_transfer: float = 0.0
    copy_paste: float = 0.0
    share: float = 0.5
    touching: float = 0.3

    @classmethod
    def of(cls, config: MixingSettings) -> Mixing | None:
        """Returns the mixing of a configuration; None where it has both probabilities at 0."""
        if not (config.COLOUR_TRANSFER or config.COPY_PASTE):
            return None
        return cls(config.COLOUR_TRANSFER, config.COPY_PASTE, config.COPY_PASTE_SHARE, config.COPY_PASTE_TOUCHING)

    def __call__(
        self,
        load: Callable[[int], tuple[np.ndarray, np.ndarray]],
        image_id: int,
        alike: Sequence[int],
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Loads an image and mixes it with others at random.

        Three other images are drawn, and those that look alike (`nucleus.images.appearance.look`) are used, even where
        the data set calls their modality the same. Colours are transferred between images of stained tissue whose
        colours are close to each other, never from or to a grey image; nuclei are pasted where they fit
        (`nucleus.augmentation.copy_paste.paste_nuclei`).

        Args:
            load: Function from the index of an image to (image uint8 [H, W, 3] RGB, labels int32 [H, W]).
            image_id: Index of the image to mix.
            alike: Indices of the other images of the same modality.
            rng: Source of every random choice.

        Returns:
            (image, labels), with the shapes and dtypes of `load`.
        """
        image, labels = load(image_id)
        kind = look(image)
        if rng.random() < self.colour_transfer and kind == "histology":
            image = _with_colours(image, (load(other)[0] for other in _draw(alike, rng)))
        if rng.random() < self.copy_paste and labels.any():
            image, labels = self._paste(image, labels, kind, (load(other) for other in _draw(alike, rng)), rng)
        return image, labels

    def _paste(
        self,
        image: np.ndarray,
        labels: np.ndarray,
        kind: str,
        others: Iterable[tuple[np.ndarray, np.ndarray]],
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray]:
        present = int(labels.max())
        wanted = present + int(rng.integers(1, max(1, round(self.share * present)) + 1))
        for donor, donor_labels in others:
            if look(donor) == kind:
                missing = wanted - int(labels.max())
                image, labels = paste_nuclei(image, labels, donor, donor_labels, missing, rng, self.touching)
            if labels.max() == wanted:
                break
        return image, labels


def _with_colours(image: np.ndarray, others: Iterable[np.ndarray]) -> np.ndarray:
    """Returns the image in the colours of the first of the others that are close to its own; unchanged without one."""
    own = ColourStatistics.of(image)
    for other in others:
        wanted = ColourStatistics.of(other)
        if look(other) == "histology" and own.is_near(wanted):
            return transfer_colour(image, wanted)
    return image


def _draw(alike: Sequence[int], rng: np.random.Generator) -> list[int]:
    return rng.choice(alike, min(_TRIES, len(alike)), replace=False).tolist() if len(alike) else []
