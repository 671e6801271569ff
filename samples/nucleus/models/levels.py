"""The level of a pyramid, and the factor, at which a model is shown an image of which only regions are in memory.

1. SCALE and DIAMETER say how large the image is to be shown: the level is the smallest that is not coarser.
2. Otherwise the size of the nuclei is estimated, as `nucleus.models.scale` does it, in up to six regions with tissue,
   until three of them show nuclei: the median of these counts. The level that is looked at first is the one in whose
   pixels a nucleus of 8 µm has the typical one of KNOWN_DIAMETERS; without the size of a pixel it is the largest. So
   that assumption decides where to look, and the nuclei that are seen decide the scale: where they ask for a finer
   level, it is looked at anew.
3. If no region shows nuclei, the level that was looked at first is read, and a warning says so. So does one if a model
   does not say which nuclei it knows and the image has several levels.

Whoever chooses a level is given that level; SCALE and DIAMETER count in its pixels then, and in those of the largest
level otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

from nucleus.images.lazy import LazyImage, choose_level
from nucleus.models.base import NucleusModel
from nucleus.models.scale import AutoScale, FixedScale, find_factor

# Diameter in µm of a usual nucleus, by which the level is chosen that is looked at first.
_USUAL = 8.0
# Number of regions with nuclei that are enough.
_ENOUGH = 3


@dataclass(frozen=True)
class Fit:
    """Level and factor at which a model is shown an image.

    Attributes:
        level: Level of the pyramid, 0 for the largest.
        factor: Factor of height and width of the level at which the model is shown it.
        diameter: Diameter of the nuclei in pixels of the level; None if it was not estimated.
        reason: Where level and factor come from, in a few words.
        warning: What the user should know if they were guessed, without the name of the file; "" otherwise.
    """

    level: int
    factor: float
    diameter: float | None
    reason: str
    warning: str = ""

    def describe(self, image: LazyImage) -> str:
        """Describes the level in a sentence without its end.

        Args:
            image: The image at the level.
        """
        height, width, _ = image.shape
        size = "" if image.pixel_size is None else f", {image.pixel_size:.4g} µm a pixel"
        level = f"level {self.level} of {len(image.levels)} ({width} x {height}{size})"
        return f"{level}, shown to the model at {self.factor:.3g} times its size: {self.reason}"


def fit_level(model: NucleusModel, image: LazyImage) -> Fit:
    """Finds the level and the factor at which a model is shown an image; see the module's docstring.

    Args:
        model: A model as `nucleus.load_model` returns it.
        image: The image.
    """
    if isinstance(model, AutoScale):
        return _estimate(model, image)
    if isinstance(model, FixedScale):
        level = image.level if image.chosen else choose_level(image.levels, 1 / model.factor)
        finer = image.at_level(level).downsampling / image.downsampling
        return Fit(level, model.factor * finer, None, "the scale is set")
    warning = ""
    if len(image.levels) > 1 and not image.chosen:
        warning = (
            f"is read at the largest of its {len(image.levels)} levels, since the model does not say which nuclei it "
            "knows. Set --scale to read a smaller one."
        )
    return Fit(image.level, 1.0, None, "the model does not say which nuclei it knows", warning)


def _estimate(model: AutoScale, image: LazyImage) -> Fit:
    level = first = _first_level(image, model.config.KNOWN_DIAMETERS[1])
    while True:
        looked = image.at_level(level)
        factor, diameter, regions = _look(model, looked)
        if diameter is None and level > 0 and not image.chosen:
            # Nuclei may be far smaller than assumed.
            level = 0
            continue
        if diameter is None:
            break
        wanted = level if image.chosen else choose_level(image.levels, looked.downsampling / factor)
        if wanted >= level:
            coarser = image.at_level(wanted).downsampling / looked.downsampling
            return Fit(wanted, factor * coarser, diameter / coarser, f"estimated from nuclei in {_regions(regions)}")
        level = wanted
    size = image.at_level(first).pixel_size
    warning = (
        f"no nuclei were found in {_regions(regions)} by which its scale could be estimated, so it is read as it is at "
        f"level {first} of {len(image.levels)}{'' if size is None else f' ({size:.4g} µm a pixel)'}. Set the scale "
        "(--scale, --diameter) if there are any."
    )
    return Fit(first, 1.0, None, "no nuclei were found by which the scale could be estimated", warning)


def _first_level(image: LazyImage, typical: float) -> int:
    """Returns the level that is looked at first."""
    if image.chosen or image.pixel_size is None:
        return image.level
    return choose_level(image.levels, _USUAL / typical / image.pixel_size)


def _look(model: AutoScale, image: LazyImage) -> tuple[float, float | None, int]:
    """Returns the factor, the diameter of the nuclei and the number of regions it was looked for in."""
    found: list[tuple[float, float]] = []
    looked, prepare = 0, model.preparation(image.sample)
    for region in image.tissue():
        factor, diameter = find_factor(model.model, prepare(region), model.config.KNOWN_DIAMETERS)
        looked += 1
        if diameter:
            found.append((diameter, factor))
        if len(found) == _ENOUGH:
            break
    if not found:
        return 1.0, None, looked
    diameter, factor = sorted(found)[(len(found) - 1) // 2]
    return factor, diameter, len(found)


def _regions(number: int) -> str:
    return "1 region" if number == 1 else f"{number} regions"
