"""The named combinations of the classical methods, those of section 3.2 of Vuola's thesis.

The thesis describes the methods and shows what they find, without figures or settings. The settings are ours, chosen on
training images; samples/nucleus/RESULTS.md says how.
"""

from __future__ import annotations

from trainkit.presets import Preset

# What the presets' settings were chosen on: not held out where these images are scored.
CHOSEN_ON = "66 training images of the 2018 Data Science Bowl"


PRESETS: dict[str, Preset] = {
    "otsu": Preset(
        summary="one threshold for the whole image, connected pixels are a nucleus",
        source="Otsu, A threshold selection method from gray-level histograms, 1979",
        settings={"SMOOTHING": 0.0, "OPENING_RADIUS": 2, "MIN_AREA": 20},
    ),
    "local-threshold": Preset(
        summary="a threshold that follows the light around each pixel, connected pixels are a nucleus",
        source="Vuola, Nuclei segmentation using computer vision, 2019, section 3.2.1",
        settings={"THRESHOLD": "local", "LOCAL_WINDOW": 15, "LEVEL": 0.35},
    ),
    "watershed": Preset(
        summary="a threshold for the whole image, then the watershed of the distance to the background (the default)",
        source="Vuola, Nuclei segmentation using computer vision, 2019, section 3.2.2",
        settings={"SMOOTHING": 0.0, "LEVEL": 0.4, "OPENING_RADIUS": 1, "SEPARATION": "watershed"},
    ),
    "active-contours": Preset(
        summary="a threshold, morphological Chan-Vese contours with local means, then the watershed; slower",
        source="Márquez-Neila, Baumela and Álvarez, A morphological approach to curvature-based evolution, 2014",
        settings={"CONTOURS": "chan-vese", "CONTOUR_WINDOW": 45, "SEPARATION": "watershed"},
    ),
}
