"""Finding nuclei with classical methods."""

from __future__ import annotations

import numpy as np

from nucleus.models.classical.config import ClassicalConfig
from nucleus.models.classical.grey import noise_deviation, nuclear_levels, smooth, to_grey
from nucleus.models.classical.masks import find_mask
from nucleus.models.classical.scores import score_nuclei
from nucleus.models.classical.separation import separate
from nucleus.models.inference import preprocessing


class ClassicalPredictor:
    """Thresholds, contours and watershed with the application's preprocessing before them.

    Example:
        >>> from nucleus import make_config, predict, read_image
        >>> model = ClassicalPredictor(make_config("inference", preset="watershed", model="classical"))
        >>> labels, scores = predict(model, read_image("cells.png"))  # doctest: +SKIP

    Args:
        config: What is done; by default `ClassicalConfig()`.
    """

    def __init__(self, config: ClassicalConfig | None = None):
        self.config = ClassicalConfig() if config is None else config
        self._preprocess = preprocessing(self.config)

    def predict_labels(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Finds nuclei; see `nucleus.models.inference.predict`.

        Args:
            image: uint8 `[H, W, 3]` RGB.

        Returns:
            labels: int32 `[H, W]`, 0 background, 1...N one nucleus each.
            scores: float32 `[N]` in 0..1, see `nucleus.models.classical.scores.score_nuclei`.
        """
        config = self.config
        prepared = image if self._preprocess is None else self._preprocess(image)
        grey = to_grey(prepared, config.CHANNEL)
        least_contrast = config.MIN_CONTRAST * noise_deviation(grey)
        levels = nuclear_levels(smooth(grey, config.SMOOTHING), config.POLARITY, least_contrast, config.CLASSES)
        if levels is None:
            return np.zeros(image.shape[:2], np.int32), np.zeros(0, np.float32)
        labels = separate(find_mask(levels, config), config)
        return labels, score_nuclei(labels, levels)
