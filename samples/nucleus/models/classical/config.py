"""The settings of the classical methods."""

from __future__ import annotations

import math

from nucleus.models.classical.grey import CHANNELS, POLARITIES
from nucleus.models.settings import PredictionSettings
from trainkit.settings import SettingsError

THRESHOLDS = ("otsu", "local")
CONTOURS = ("none", "chan-vese", "geodesic")
SEPARATIONS = ("components", "watershed")


class ClassicalConfig(PredictionSettings):
    """How nuclei are found without a network. Lengths are in pixels."""

    model_kind = "classical"

    # Chooses the folds that a data set is divided into; nothing else here is left to chance.
    SEED = 0

    # ---- Grey levels: see nucleus.models.classical.grey -----------------------------------------------------------------
    # One of CHANNELS: what of a colour image is used.
    CHANNEL = "luminance"
    # One of POLARITIES: whether nuclei are brighter or darker than the background; "auto" takes the rarer of Otsu's two
    # classes for nuclei, image by image.
    POLARITY = "auto"
    # Sigma of the Gaussian before everything else; 0 for none.
    SMOOTHING = 0.5
    # Classes of grey levels that Otsu's method finds: background and nuclei, or 3 where nuclei lie in stained cells.
    CLASSES = 2
    # An image whose two classes differ by less than this many standard deviations of its noise has no nuclei.
    MIN_CONTRAST = 3.0

    # ---- Mask: see nucleus.models.classical.masks -----------------------------------------------------------------------
    # One of THRESHOLDS. "otsu": what is above LEVEL. "local": what is also brighter than the mean around it.
    THRESHOLD = "otsu"
    # From 0, the mean of Otsu's background (of 3 classes, of the cells), to 1, that of Otsu's nuclei; Otsu's threshold
    # is 0.5.
    LEVEL = 0.5
    # "local" only: side of the square around a pixel, odd, and by how much, on the scale of LEVEL, nuclei are above
    # its mean.
    LOCAL_WINDOW = 51
    LOCAL_OFFSET = 0.0
    # Radius of the disk of a morphological opening of the mask; 0 for none.
    OPENING_RADIUS = 0

    # ---- Active contours, from this mask on: see nucleus.models.classical.contours --------------------------------------
    # One of CONTOURS.
    CONTOURS = "none"
    # Steps at most.
    ITERATIONS = 20
    # Smoothings of the outline a step.
    CONTOUR_SMOOTHING = 1
    # "chan-vese" only: side of the square, odd, in which the means inside and outside are taken; 0 for the whole image.
    CONTOUR_WINDOW = 0
    # "geodesic" only: sigma of the gradient, how much an edge counts, and whether outlines grow (1), shrink (-1) or do
    # neither (0) where there is none.
    EDGE_SIGMA = 1.0
    EDGE_STEEPNESS = 100.0
    BALLOON = 0

    # ---- Nuclei: see nucleus.models.classical.separation ----------------------------------------------------------------
    # Whether holes inside a nucleus belong to it.
    FILL_HOLES = True
    # One of SEPARATIONS. "components": connected pixels are one nucleus. "watershed": they are split at their necks.
    SEPARATION = "components"
    # "watershed" only: sigma of the Gaussian on the distance to the background; and how wide a neck is at least, beside
    # the narrower of the two parts it joins, if they are one nucleus: less joins more.
    DISTANCE_SMOOTHING = 1.0
    NECK = 0.9
    # Nuclei of fewer pixels are dropped; 0 keeps all.
    MIN_AREA = 40

    def validate(self) -> None:
        """Checks the settings; see `Settings.validate`.

        Raises:
            SettingsError: A value is out of its range; the message names the attribute.
        """
        super().validate()
        for name, choices in (
            ("CHANNEL", CHANNELS),
            ("POLARITY", POLARITIES),
            ("CLASSES", (2, 3)),
            ("THRESHOLD", THRESHOLDS),
            ("CONTOURS", CONTOURS),
            ("BALLOON", (-1, 0, 1)),
            ("SEPARATION", SEPARATIONS),
        ):
            self.require_choice(name, choices)
        self.require_at_least(
            0,
            "SMOOTHING",
            "MIN_CONTRAST",
            "OPENING_RADIUS",
            "ITERATIONS",
            "CONTOUR_SMOOTHING",
            "EDGE_STEEPNESS",
            "SEED",
        )
        self.require_at_least(0, "DISTANCE_SMOOTHING", "MIN_AREA")
        self.require_share("NECK")
        self.require_above(0, "EDGE_SIGMA")
        for name in ("LEVEL", "LOCAL_OFFSET"):
            if not math.isfinite(getattr(self, name)):
                raise SettingsError(f"{name} must be a number. Received: {getattr(self, name)!r}")
        self._require_window("LOCAL_WINDOW")
        if self.CONTOUR_WINDOW:
            self._require_window("CONTOUR_WINDOW")

    def _require_window(self, name: str) -> None:
        """Raises SettingsError unless a window has a middle, and neighbours around it."""
        if getattr(self, name) < 3 or getattr(self, name) % 2 == 0:
            raise SettingsError(f"{name} must be an odd number of pixels from 3 on. Received: {getattr(self, name)!r}")
