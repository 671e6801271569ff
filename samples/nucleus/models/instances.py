"""Models that find every nucleus as a box with a mask, which are painted into a label image."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mrcnn.config import Config
from nucleus.images.labels import drop_small, paint
from nucleus.models.base import NucleusModel, Prediction
from nucleus.models.limits import PROPOSALS, Limit, report_limit
from nucleus.models.voting import Found, merge_views

if TYPE_CHECKING:
    from mrcnn.results import Instances


# Proposals that a nucleus takes, as the lineage's settings have it: 2,000 for 400 nuclei. With 1,000, 245 nuclei of 247
# were found in one image, and 255 of 268 in another.
_PROPOSALS_EACH = 5


class InstanceModel(NucleusModel):
    """A model whose evidence is boxes with mask probabilities, which views and networks merge by a vote."""

    config: Config

    @abstractmethod
    def _find(self, images: Sequence[np.ndarray]) -> list[Instances]:
        """Finds the instances in preprocessed images, uint8 `[H, W, 3]` RGB."""

    def _predict(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        predictions = []
        for image, found in zip(images, self._detect(images), strict=True):
            crops = [found.crop(index) for index in range(len(found.boxes))]
            predictions.append(self._paint((found.boxes, crops, found.scores), image.shape[:2]))
        return predictions

    def observe(self, images: Sequence[np.ndarray]) -> list[list[Found]]:
        """Returns boxes int `[N, 4]`, the mask probabilities inside them and scores; see `NucleusModel.observe`."""
        return [
            [(found.boxes, [found.crop_probabilities(index) for index in range(len(found.boxes))], found.scores)]
            for found in self._detect(images)
        ]

    def _detect(self, images: Sequence[np.ndarray]) -> list[Instances]:
        """Returns the network's detections, and reports images that reach the maximum number of them.

        Proposals that are too few for the nuclei of an image are such a limit too.
        """
        detections, proposals = self._find(images), self.config.POST_NMS_ROIS_INFERENCE
        for index, (image, found) in enumerate(zip(images, detections, strict=True)):
            if found.limit_reached:
                most = self.config.DETECTION_MAX_INSTANCES
                report_limit(Limit("DETECTION_MAX_INSTANCES", most, image.shape[:2], index))
            elif _PROPOSALS_EACH * len(found.boxes) > proposals:
                report_limit(Limit(PROPOSALS, proposals, image.shape[:2], index))
        return detections

    def conclude(self, evidence: Sequence[Found], shape: tuple[int, int]) -> Prediction:
        """Averages the mask probabilities of instances that agree, and paints them; see `NucleusModel.conclude`."""
        config = self.config
        return self._paint(merge_views(evidence, config.TEST_TIME_VOTES, config.DETECTION_MASK_THRESHOLD), shape)

    def _paint(self, instances: Found, shape: tuple[int, int]) -> Prediction:
        """Paints boxes and masks into a label image by OVERLAP_RULE, FILL_HOLES and MIN_AREA."""
        labels, kept = paint(*instances, shape, self.config.OVERLAP_RULE)
        scores = np.asarray(instances[2], np.float32)[kept]
        # As in a U-Net's post-processing: a hole counts as area, and dropping a nucleus may leave one.
        labels = self._without_holes(labels)
        if self.config.MIN_AREA > 1:
            labels, large = drop_small(labels, self.config.MIN_AREA)
            labels, scores = self._without_holes(labels), scores[large]
        return Prediction(labels, scores)

    def _without_holes(self, labels: np.ndarray) -> np.ndarray:
        if not self.config.FILL_HOLES:
            return labels
        from unet.postprocess import fill_holes

        return fill_holes(labels)
