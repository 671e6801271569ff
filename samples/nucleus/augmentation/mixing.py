"""What one training image takes from others of its data set: their colours, and some of their nuclei."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nucleus.augmentation.colour_transfer import ColourStatistics, transfer_colour
from nucleus.augmentation.copy_paste import paste_nuclei
from nucleus.images.appearance import look

if TYPE_CHECKING:
    from nucleus.models.settings import ApplicationSettings

# Images that are looked at for one that is alike and has what fits.
_TRIES = 3


@dataclass(frozen=True)
class Mixing:
    """How often and how much images are mixed; see `nucleus.models.settings.ApplicationSettings`, which has the defaults.

    Attributes:
        colour_transfer: Probability that an image of a stained section takes on the colours of another.
        copy_paste: Probability that an image is given nuclei of others.
        share: How many at most, as a share of the nuclei that it has (of few nuclei, one at least).
        touching: Probability that one of them is set against another nucleus.
    """

    colour_transfer: float = 0.0
    copy_paste: float = 0.0
    share: float = 0.5
    touching: float = 0.3

    @classmethod
    def of(cls, config: ApplicationSettings) -> Mixing | None:
        """What a configuration asks for; None where it asks for nothing."""
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
        """Draws an image with what others bring to it.

        Of three others drawn, those count that look alike (`nucleus.images.appearance.look`), whatever is known of their
        modality. Colours go from one image that looks like stained tissue to another whose colours are not far from its
        own, never from or to a grey one; nuclei go where they fit (`nucleus.augmentation.copy_paste.paste_nuclei`).

        Args:
            load: Gives (image uint8 [H, W, 3] RGB, labels int32 [H, W]) of an image.
            image_id: The image.
            alike: The others of its modality.
            rng: Makes every random choice.

        Returns:
            (image, labels), of the shapes that they had.
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
    """The image in the colours of the first of the others that has like ones; as it is if there is none."""
    own = ColourStatistics.of(image)
    for other in others:
        wanted = ColourStatistics.of(other)
        if look(other) == "histology" and own.is_near(wanted):
            return transfer_colour(image, wanted)
    return image


def _draw(alike: Sequence[int], rng: np.random.Generator) -> list[int]:
    return rng.choice(alike, min(_TRIES, len(alike)), replace=False).tolist() if len(alike) else []
