"""Presets of the classical methods: those of "Nuclei segmentation using computer vision", Vuola, 2019, section 3.2.

The thesis describes the methods and shows their results, without scores or settings. The settings are ours, chosen on
training images as described in samples/nucleus/RESULTS.md.
"""

from __future__ import annotations

from trainkit.presets import Preset

# Images that the presets' settings were chosen on; scores of these images are not held out.
CHOSEN_ON = "66 training images of the 2018 Data Science Bowl"


PRESETS: dict[str, Preset] = {
    "otsu": Preset(
        summary="a global threshold, then connected components",
        source="Otsu, A threshold selection method from gray-level histograms, 1979",
        settings={"SMOOTHING": 0.0, "OPENING_RADIUS": 2, "MIN_AREA": 20},
    ),
    "local-threshold": Preset(
        summary="a local threshold that follows uneven light, then connected components",
        source="Vuola, Nuclei segmentation using computer vision, 2019, section 3.2.1",
        settings={"THRESHOLD": "local", "LOCAL_WINDOW": 15, "LEVEL": 0.35},
    ),
    "watershed": Preset(
        summary="a global threshold, then the watershed of the distance to the background (the default)",
        source="Vuola, Nuclei segmentation using computer vision, 2019, section 3.2.2",
        settings={"SMOOTHING": 0.0, "LEVEL": 0.4, "OPENING_RADIUS": 1, "SEPARATION": "watershed"},
    ),
    "active-contours": Preset(
        summary="a global threshold, morphological Chan-Vese contours with local means, then the watershed; slower",
        source="Márquez-Neila, Baumela and Álvarez, A morphological approach to curvature-based evolution, 2014",
        settings={"CONTOURS": "chan-vese", "CONTOUR_WINDOW": 45, "SEPARATION": "watershed"},
    ),
}
