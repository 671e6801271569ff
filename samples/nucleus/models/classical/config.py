"""Settings of the classical methods."""

from __future__ import annotations

import math

from nucleus.models.classical.grey import CHANNELS, POLARITIES
from nucleus.models.classical.masks import CONTOURS, THRESHOLDS
from nucleus.models.classical.separation import SEPARATIONS
from nucleus.models.settings import PredictionSettings
from trainkit.settings import SettingsError


class ClassicalConfig(PredictionSettings):
    """Settings of nucleus detection without a network. Lengths are in pixels."""

    model_kind = "classical"

    # Seed of the division of a data set into folds; nothing else here is random.
    SEED = 0

    # ---- Grey levels: see nucleus.models.classical.grey ----
    # A key of CHANNELS: the channel of a colour image that is used.
    CHANNEL = "luminance"
    # One of POLARITIES: whether nuclei are brighter or darker than the background; "auto" takes the rarer of Otsu's two
    # classes for nuclei in each image.
    POLARITY = "auto"
    # Sigma of a Gaussian that is applied first; 0 for none.
    SMOOTHING = 0.5
    # Number of Otsu's classes: 2, background and nuclei, or 3, where nuclei lie in stained cells.
    CLASSES = 2
    # An image whose two classes differ by less than this many standard deviations of its noise has no nuclei.
    MIN_CONTRAST = 3.0

    # ---- Mask: see nucleus.models.classical.masks ----
    # A key of THRESHOLDS. "otsu": pixels above LEVEL. "local": those that are also above the mean around them.
    THRESHOLD = "otsu"
    # Threshold on a scale from 0, the mean of Otsu's background (with 3 classes, of the cells), to 1, the mean of the
    # nuclei; Otsu's own threshold is 0.5.
    LEVEL = 0.5
    # "local" only: side of the square around a pixel, odd, and the smallest difference of a nucleus to the square's
    # mean, on the scale of LEVEL.
    LOCAL_WINDOW = 51
    LOCAL_OFFSET = 0.0
    # Radius of the disk of a morphological opening of the mask; 0 for none.
    OPENING_RADIUS = 0

    # ---- Active contours, which start from this mask: see nucleus.models.classical.contours ----
    # A key of CONTOURS.
    CONTOURS = "none"
    # Largest number of steps.
    ITERATIONS = 20
    # Smoothing passes per step.
    CONTOUR_SMOOTHING = 1
    # "chan-vese" only: side of the square, odd, that the means inside and outside are of; 0 for the whole image.
    CONTOUR_WINDOW = 0
    # "geodesic" only: sigma of the gradient, weight of an edge, and whether outlines grow (1), shrink (-1) or stay (0)
    # where there is no edge.
    EDGE_SIGMA = 1.0
    EDGE_STEEPNESS = 100.0
    BALLOON = 0

    # ---- Nuclei: see nucleus.models.classical.separation ----
    # True: holes inside a nucleus belong to it.
    FILL_HOLES = True
    # A key of SEPARATIONS. "components": connected pixels are one nucleus. "watershed": they are split at their necks.
    SEPARATION = "components"
    # "watershed" only: sigma of the Gaussian on the distance to the background; and the least width of a neck, as a
    # share of the narrower of the two parts it joins, at which they are one nucleus: smaller values join more.
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
        """Raises SettingsError unless a window's side is odd and at least 3."""
        if getattr(self, name) < 3 or getattr(self, name) % 2 == 0:
            raise SettingsError(f"{name} must be an odd number of pixels from 3 on. Received: {getattr(self, name)!r}")
