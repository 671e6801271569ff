"""Post-processing: from probabilities to a label image with a score for each nucleus.

Every method thresholds the mask. All but "components" then find markers in it, one for each nucleus, and grow them to
the whole mask, or as far as the method says. What becomes of a component of the mask without a marker, most often a
speck, is a setting.

Components are 4-connected throughout: nuclei that meet at a corner only are two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np
from scipy import ndimage
from skimage import segmentation

from trainkit.label_images import drop_small
from unet.random_walk import random_walk
from unet.targets import CHANNELS, disk

# A function of the probability [H, W], numbered markers int32 [H, W] and a mask bool [H, W] to labels int32 [H, W].
Grow = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Method:
    """Way from channels to nuclei: the markers and their growth.

    Attributes:
        markers: Function of the probabilities `[H, W, C]` and the settings to the markers, bool `[H, W]` inside the
            mask, of which each 4-connected component is one; None: every component of the mask is a nucleus.
        grow: Function that shares a component with several markers among them.
        needs_borders: True if the markers come from the channels beside the mask.
        reopens: True if markers are grown back by `opening_radius` alone, not to the outlines of the mask.
    """

    markers: Callable[[np.ndarray, PostprocessSettings], np.ndarray] | None = None
    grow: Grow | None = None
    needs_borders: bool = False
    reopens: bool = False


@dataclass(frozen=True)
class PostprocessSettings:
    """Settings of the way from probabilities to nuclei.

    Attributes:
        targets: Kind of the channels, a key of `unet.targets.CHANNELS`.
        method: Key of `METHODS`:
            "components": the components of the mask. Nuclei that touch are one.
            "opening": the mask is eroded by `opening_radius`, its components are numbered, and each is dilated by as
            much (Zhang, Wei and Yue, "Instance segmentation of nucleus images", 2018, section 2.1). Outlines lose what
            no disk of that radius inside the mask covers.
            "erosion": markers are the components of the mask after an erosion by `opening_radius`; they are grown back
            to the outlines of the mask by the watershed.
            "watershed": markers are `borderless`, or `core`, without `touching` (Rocha de Andrade, "Nuclei detection
            based on fully convolutional networks", section 5.3.1), or `mask` without `border` (Vuola, "Nuclei
            segmentation using computer vision", 2019, section 4.4.3); they are grown over the mask's probability by
            the watershed.
            "random-walker": the same markers, grown by `unet.random_walk`; slower, and less led by noise.
        mask_threshold: Probability of `mask`, 0 to 1, above which a pixel belongs to a nucleus.
        marker_threshold: Probability of `borderless` or `core` (of `mask`, where there is neither), 0 to 1, above
            which a pixel may belong to a marker.
        border_threshold: Probability of `touching` or `border`, 0 to 1, above which a pixel belongs to no marker.
        opening_radius: Radius in pixels, 1 or more, of the disk that erodes the mask; "opening" and "erosion" only.
        min_area: Area in pixels below which a nucleus is dropped.
        fill_holes: True to fill holes that lie inside a single nucleus.
        keep_unmarked: True to make nuclei of the components of the mask without a marker. Such are specks, and nuclei
            too small or too faint to have a marker.
    """

    targets: str = "mask-borderless-touching"
    method: str = "watershed"
    mask_threshold: float = 0.5
    marker_threshold: float = 0.5
    border_threshold: float = 0.5
    opening_radius: int = 2
    min_area: int = 0
    fill_holes: bool = True
    keep_unmarked: bool = False

    def __post_init__(self) -> None:
        if self.targets not in CHANNELS:
            raise ValueError(f"targets must be one of {', '.join(CHANNELS)}. Received: {self.targets!r}")
        if self.method not in METHODS:
            raise ValueError(f"The method must be one of {', '.join(METHODS)}. Received: {self.method!r}")
        if METHODS[self.method].needs_borders and len(CHANNELS[self.targets]) == 1:
            raise ValueError(
                f"The method {self.method!r} takes its markers from a border channel, which the targets "
                f"{self.targets!r} do not have: use 'components', 'opening' or 'erosion'."
            )
        for name in ("mask_threshold", "marker_threshold", "border_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in 0..1. Received: {getattr(self, name)}")
        if self.min_area < 0:
            raise ValueError(f"min_area must be 0 or more. Received: {self.min_area}")
        disk(self.opening_radius)

    @classmethod
    def from_config(cls, config: Any) -> PostprocessSettings:
        """Reads the settings from a configuration.

        Args:
            config: Configuration with the attributes that `config_name` names, such as `unet.config.UNetConfig`.

        Raises:
            ValueError: A setting is out of its range or does not fit another.
        """
        return cls(**{field.name: getattr(config, config_name(field.name)) for field in fields(cls)})


def config_name(setting: str) -> str:
    """Returns the configuration's name of a setting: POSTPROCESS for `method`, else the name in upper case.

    Args:
        setting: Attribute of `PostprocessSettings`.
    """
    return "POSTPROCESS" if setting == "method" else setting.upper()


def postprocess(
    probabilities: np.ndarray, settings: PostprocessSettings | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Turns a segmenter's probabilities into nuclei.

    Args:
        probabilities: float `[H, W, C]` in 0..1, the channels `CHANNELS[settings.targets]` in order.
        settings: Method and thresholds; by default `PostprocessSettings()`. `PostprocessSettings.from_config` reads a
            configuration.

    Returns:
        (labels int32 `[H, W]`, scores float32 `[N]`): 0 is background, 1...N the nuclei; scores[k], 0 to 1, is the
        mean probability of `mask` on the pixels of nucleus k + 1.

    Raises:
        ValueError: The probabilities do not fit the settings, are outside 0..1 or not numbers.

    Examples:
        Two nuclei share an edge; the channel `touching` keeps their markers apart.

        >>> probabilities = np.zeros((2, 9, 3))
        >>> probabilities[:, 1:4, :2] = 0.875
        >>> probabilities[:, 4, 0] = 0.625
        >>> probabilities[:, 4, 2] = 1.0
        >>> probabilities[:, 5:8, :2] = 0.75
        >>> labels, scores = postprocess(probabilities)
        >>> labels
        array([[0, 1, 1, 1, 1, 2, 2, 2, 0],
               [0, 1, 1, 1, 1, 2, 2, 2, 0]], dtype=int32)
        >>> scores.tolist()
        [0.8125, 0.75]
        >>> one, _ = postprocess(probabilities, PostprocessSettings(method="components"))
        >>> int(one.max())
        1
    """
    settings = settings or PostprocessSettings()
    probabilities = _checked(probabilities, settings)
    probability = np.ascontiguousarray(probabilities[..., 0], dtype=np.float32)
    mask = probability > settings.mask_threshold
    method = METHODS[settings.method]
    if method.markers is None:
        labels, _ = label_components(mask)
    else:
        markers = method.markers(probabilities, settings)
        labels, _ = grow_markers(probability, markers, mask, method.grow, settings.keep_unmarked)
        if method.reopens:
            labels = _reopened(labels, markers, settings.opening_radius)
    if settings.fill_holes:
        # A hole counts towards a nucleus' area, and a dropped nucleus may leave one.
        labels = fill_holes(drop_small(fill_holes(labels), settings.min_area)[0])
    else:
        labels, _ = drop_small(labels, settings.min_area)
    return labels, mean_scores(labels, probability)


def find_markers(probabilities: np.ndarray, settings: PostprocessSettings) -> np.ndarray:
    """Finds the pixels that nuclei are grown from, by the settings' method.

    Args:
        probabilities: float `[H, W, C]` in 0..1, the channels `CHANNELS[settings.targets]` in order.
        settings: Settings whose method is not "components".

    Returns:
        bool `[H, W]`, inside the mask; each 4-connected component is one marker.
    """
    return METHODS[settings.method].markers(probabilities, settings)


def _eroded_mask(probabilities: np.ndarray, settings: PostprocessSettings) -> np.ndarray:
    mask = probabilities[..., 0] > settings.mask_threshold
    # The world outside the image does not erode: a nucleus that the edge cuts goes on there.
    return cv2.erode(mask.view(np.uint8), disk(settings.opening_radius)).view(bool)


def _without_borders(probabilities: np.ndarray, settings: PostprocessSettings) -> np.ndarray:
    mask = probabilities[..., 0] > settings.mask_threshold
    channels = CHANNELS[settings.targets]
    inner = probabilities[..., next((channels.index(name) for name in ("borderless", "core") if name in channels), 0)]
    return mask & (inner > settings.marker_threshold) & (probabilities[..., -1] <= settings.border_threshold)


def grow_markers(
    probability: np.ndarray,
    markers: np.ndarray,
    mask: np.ndarray,
    grow: Grow,
    keep_unmarked: bool = False,
) -> tuple[np.ndarray, int]:
    """Shares a mask among markers.

    Args:
        probability: float32 `[H, W]` in 0..1, probability that a pixel belongs to a nucleus.
        markers: bool `[H, W]`, inside the mask; each 4-connected component is one marker.
        mask: bool `[H, W]`, pixels of nuclei.
        grow: Function that shares the components with several markers, such as `grow_watershed`.
        keep_unmarked: True to make a nucleus of a component without a marker.

    Returns:
        (labels int32 `[H, W]`, the highest label).
    """
    components, component_count = label_components(mask)
    numbered, marker_count = label_components(markers)
    component_of = np.zeros(marker_count + 1, np.int32)
    component_of[numbered[markers]] = components[markers]
    markers_in = np.bincount(component_of[1:], minlength=component_count + 1)
    label_of = np.zeros(component_count + 1, np.int32)
    label_of[component_of[1:]] = np.arange(1, marker_count + 1)
    unmarked = np.flatnonzero(markers_in[1:] == 0) + 1
    if keep_unmarked:
        label_of[unmarked] = marker_count + 1 + np.arange(len(unmarked))
    labels = label_of[components]
    if (markers_in > 1).any():
        contested = (markers_in > 1)[components]
        (window,) = ndimage.find_objects(contested.view(np.uint8))
        contested = contested[window]
        shared = grow(probability[window], numbered[window], contested)
        labels[window][contested] = shared[contested]
    return labels, marker_count + len(unmarked)


def grow_watershed(probability: np.ndarray, markers: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Grows markers over a mask from high probabilities to low ones (Beucher and Lantuejoul 1979).

    Args:
        probability: float `[H, W]` in 0..1, probability that a pixel belongs to a nucleus.
        markers: int32 `[H, W]`, numbered markers, 0 elsewhere. Pixels of different markers are not neighbours.
        mask: bool `[H, W]`, pixels to share among the markers.

    Returns:
        int32 `[H, W]`, the marker's number on each pixel of the mask that a marker reaches.
    """
    # Inside a marker there is nothing to grow over; without it the watershed's queue is several times shorter.
    inside = cv2.erode((markers > 0).view(np.uint8), disk(1)).view(bool) & mask
    grown = segmentation.watershed(-probability, np.where(inside, 0, markers), mask=mask & ~inside)
    return np.where(inside, markers, grown).astype(np.int32, copy=False)


def grow_nearest(probability: np.ndarray, markers: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Grows markers over a mask by distance: every pixel goes to the nearest marker.

    Args:
        probability: float `[H, W]`; not used.
        markers: int32 `[H, W]`, numbered markers, 0 elsewhere; one at least.
        mask: bool `[H, W]`, pixels to share among the markers.

    Returns:
        int32 `[H, W]`, the number of the nearest marker on each pixel of the mask, by Euclidean distance.
    """
    nearest = ndimage.distance_transform_edt(markers == 0, return_distances=False, return_indices=True)
    return np.where(mask, markers[tuple(nearest)], 0).astype(np.int32, copy=False)


def _reopened(labels: np.ndarray, eroded: np.ndarray, radius: int) -> np.ndarray:
    """Cuts nuclei back to the dilation of what an erosion left of them; those of which it left nothing stay.

    Args:
        labels: int32 `[H, W]` label image.
        eroded: bool `[H, W]`, the eroded mask.
        radius: Radius of the erosion in pixels.
    """
    dilated = cv2.dilate(eroded.view(np.uint8), disk(radius)).view(bool)
    left = np.zeros(labels.max() + 1, bool)
    left[labels[eroded]] = True
    return np.where(dilated | ~left[labels], labels, 0)


def label_components(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Numbers the 4-connected components of a mask.

    Args:
        mask: bool `[H, W]`.

    Returns:
        (labels int32 `[H, W]`, 0 outside the mask and 1...N inside, N).
    """
    count, labels = cv2.connectedComponents(mask.view(np.uint8), connectivity=4, ltype=cv2.CV_32S)
    return labels, count - 1


def fill_holes(labels: np.ndarray) -> np.ndarray:
    """Fills the holes that lie inside a single nucleus.

    Background that several nuclei enclose together, or that reaches the image's edge, stays background.

    Args:
        labels: int32 `[H, W]` label image, 0 background.

    Returns:
        int32 `[H, W]`; the argument itself where there is nothing to fill.

    Examples:
        >>> ring = np.array([[0, 0, 0, 0, 0], [0, 3, 3, 3, 0], [0, 3, 0, 3, 0], [0, 3, 3, 3, 0], [0] * 5], np.int32)
        >>> int(fill_holes(ring)[2, 2])
        3
    """
    count, background = cv2.connectedComponents((labels == 0).view(np.uint8), connectivity=8, ltype=cv2.CV_32S)
    enclosed = np.ones(count, bool)
    enclosed[0] = False
    for edge in (background[0], background[-1], background[:, 0], background[:, -1]):
        enclosed[edge] = False
    if not enclosed.any():
        return labels
    pixels = np.flatnonzero(enclosed[background])
    hole_of = background.ravel()[pixels]
    width = labels.shape[1]
    lowest = np.full(count, np.iinfo(np.int32).max, np.int32)
    highest = np.zeros(count, np.int32)
    # Enclosed pixels are not on the image's edge, so all four neighbours exist.
    for step in (-width, -1, 1, width):
        neighbour = labels.ravel()[pixels + step]
        rim = neighbour > 0
        np.minimum.at(lowest, hole_of[rim], neighbour[rim])
        np.maximum.at(highest, hole_of[rim], neighbour[rim])
    filled = labels.copy()
    filled.ravel()[pixels] = np.where(lowest == highest, highest, 0)[hole_of]
    return filled


def mean_scores(labels: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Scores every nucleus by the mean probability on its pixels.

    Args:
        labels: int32 `[H, W]` label image with consecutive labels 0...N.
        probability: float `[H, W]` in 0..1.

    Returns:
        float32 `[N]` in 0..1; value k belongs to label k + 1.
    """
    sums = np.bincount(labels.ravel(), weights=probability.ravel())
    return (sums[1:] / np.bincount(labels.ravel())[1:]).astype(np.float32)


# Method by name. A new one is an entry, and a function where its markers or their growth are new.
METHODS: dict[str, Method] = {
    "components": Method(),
    "opening": Method(_eroded_mask, grow_nearest, reopens=True),
    "erosion": Method(_eroded_mask, grow_watershed),
    "watershed": Method(_without_borders, grow_watershed, needs_borders=True),
    "random-walker": Method(_without_borders, random_walk, needs_borders=True),
}


def _checked(probabilities: np.ndarray, settings: PostprocessSettings) -> np.ndarray:
    probabilities = np.asarray(probabilities)
    names = CHANNELS[settings.targets]
    if probabilities.ndim != 3 or 0 in probabilities.shape or probabilities.shape[-1] != len(names):
        raise ValueError(
            f"The targets {settings.targets!r} need probabilities [H, W, {len(names)}] ({', '.join(names)}). "
            f"Received: shape {probabilities.shape}"
        )
    if not np.issubdtype(probabilities.dtype, np.floating):
        raise ValueError(f"Probabilities must be floating-point numbers. Received: {probabilities.dtype}")
    lowest, highest = probabilities.min(), probabilities.max()
    if np.isnan(lowest):
        raise ValueError(f"{np.isnan(probabilities).sum()} of the probabilities are not numbers (NaN).")
    if lowest < 0 or highest > 1:
        raise ValueError(f"Probabilities must be in 0..1. Received: {lowest}..{highest}")
    return probabilities
