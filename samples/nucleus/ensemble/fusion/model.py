"""The fusion as a nucleus model: its members, building, fitting, saving and prediction."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from nucleus.datasets.dataset import NucleusDataset
from nucleus.datasets.folds import Folds
from nucleus.ensemble.boosting import import_lightgbm
from nucleus.ensemble.combined import CombinedModel, LoadMember
from nucleus.ensemble.fingerprints import exchanged, fingerprints
from nucleus.ensemble.fitted import FINGERPRINTS
from nucleus.ensemble.fitting import FitSettings
from nucleus.ensemble.fusion.config import PRESETS, FusionConfig
from nucleus.ensemble.fusion.evidence import Witnesses
from nucleus.ensemble.fusion.fitting import FusionExample, fit
from nucleus.ensemble.fusion.fused import Fusion, read_fusion
from nucleus.ensemble.fusion.objects import OBJECTS, PIXELS
from nucleus.ensemble.sources import find_source, loadable
from nucleus.evaluation.scores import average_precision
from nucleus.models.base import History, NucleusModel, Prediction
from nucleus.models.limits import limits_of, warn_of_limits
from nucleus.models.scale import Scaled, find_factor

_log = logging.getLogger(__name__)


class FusionModel(CombinedModel):
    """A fusion that runs its two members and lets their objects compete for every pixel.

    Args:
        objects: Model that finds objects: a Mask R-CNN, or any other whose evidence is boxes with masks.
        pixels: Model that rates pixels: a U-Net.
        fusion: Fusion fitted to these members; None before `fit`.
        files: "objects" and "pixels" -> file of the member, or "model:" and a name that `load_model` knows, for `save`;
            None where the members come from elsewhere.
        config: Settings; by default those of `fusion`.
        folds: Division for the cross-validation of `fit`; by default FOLDS folds stratified by modality.
        out_of_fold: By image id, the objects model and the pixels model that look at the image in `fit`, such as those
            of a cross-validation that held it out; by default the members.
        notes: Facts on the fit to note in the fusion, JSON-compatible.

    A warning is logged for a member that is known to be another model than the one that `fusion` was fitted to.

    Attributes:
        cross_validation: Images of the last `fit` with what is found in them out of fold; None before.

    Raises:
        ValueError: `pixels` does not rate pixels.
    """

    kind = FusionConfig.model_kind
    summary = "objects of a Mask R-CNN with the edges of a U-Net, and trees that choose among them"
    presets = PRESETS
    default_preset = "objects-and-pixels"
    # Name of the fitted fusion that comes with the project; see `nucleus.models.weights.shipped_default`.
    shipped = "nucleus_fusion.json"
    config_class = FusionConfig
    _irrelevant = {"weights": {}, "settings": {}}

    config: FusionConfig

    def __init__(
        self,
        objects: NucleusModel,
        pixels: NucleusModel,
        fusion: Fusion | None = None,
        files: Mapping[str, str | os.PathLike] | None = None,
        config: FusionConfig | None = None,
        folds: Folds | None = None,
        out_of_fold: Mapping[str, tuple[NucleusModel, NucleusModel]] | None = None,
        notes: Mapping[str, Any] | None = None,
    ):
        self.members = {OBJECTS: objects, PIXELS: pixels}
        self._witnesses = Witnesses(objects, pixels)
        if fusion is not None:
            for name in exchanged(fusion.fingerprints, self.members):
                _log.warning(
                    "The model of the fusion's %s is another one than the fusion was fitted to, so its probabilities "
                    "do not hold. Give that model, or fit the fusion again",
                    name,
                )
        super().__init__(fusion, files, config, folds, notes)
        self.fusion, self.out_of_fold = fusion, dict(out_of_fold or {})
        if not self.config.KNOWN_DIAMETERS:
            self.config = self.config.changed({"KNOWN_DIAMETERS": self._witnesses.known})

    @classmethod
    def begin(cls, config: FusionConfig, load_member: LoadMember) -> FusionModel:
        """Returns a fusion of the configuration's OBJECTS and PIXELS, to be fitted.

        Args:
            config: Settings.
            load_member: Function from a name or a file to its model.

        Raises:
            ValueError: A member cannot be loaded, or PIXELS does not rate pixels.
        """
        files = {OBJECTS: find_source(config.OBJECTS), PIXELS: find_source(config.PIXELS)}
        return cls(**{name: load_member(loadable(file)) for name, file in files.items()}, files=files, config=config)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike,
        load_member: LoadMember,
        config: FusionConfig | None = None,
    ) -> FusionModel:
        """Returns the fusion of a file that names its members.

        Args:
            path: File that `save` wrote.
            load_member: Function from a name or a file to its model.
            config: Settings; by default those of the file.

        Raises:
            ValueError: The file is damaged or names no files of its members, OBJECTS or PIXELS are others, or a member
                cannot be loaded or has other channels.
        """
        fusion = read_fusion(path)
        way = ": FusionModel(objects, pixels, read_fusion(path))"
        members, files = cls._load_members(path, fusion, config, load_member, way)
        model = cls(**members, fusion=fusion, files=files, config=config)
        if model._witnesses.channels != fusion.channels:
            raise ValueError(
                f"{path}: was fitted with the channels {', '.join(fusion.channels)}. {fusion.weights[PIXELS]} has "
                f"{', '.join(model._witnesses.channels)}: fit the fusion again"
            )
        return model

    @classmethod
    def read(cls, path: str | os.PathLike) -> Fusion:
        """Reads a fitted fusion; see `nucleus.ensemble.fusion.fused.read_fusion`."""
        return read_fusion(path)

    def _learn(self, train: NucleusDataset) -> History:
        """Learns the probabilities of pixels and objects and the choice, on images that no member was trained on.

        About 3 MB an image are held in memory. The scores out of fold are then in `cross_validation.report`.

        Args:
            train: Prepared data set with masks, without preprocessing.

        Returns:
            A step for every fold: its number of `images`, the `threshold` chosen on the other folds, and the `mAP` of
            a fusion whose choice was fitted to these, beside that of each member alone, `objects` and `pixels`.

        Raises:
            DatasetError: The data set has no image or preprocesses them.
            NothingToLearnError: The members found nothing near a nucleus, or nothing in the images of a fold.
            ValueError: LightGBM is missing, or the models of folds differ in their channels.
        """
        import_lightgbm()
        folds = self._divide(train)
        examples, alone = [], []
        for index in tqdm(train.image_ids, desc="members", unit="image"):
            example, scores = self._example(train, index)
            examples.append(example)
            alone.append(scores)
        fusion, self.cross_validation = fit(examples, folds.ids, FitSettings.from_config(self.config))
        history = self.cross_validation.history()
        fold_of = self.cross_validation.fitted.folds
        logs = {**history.logs, **_by_fold(alone, fold_of)}
        means = {name: float(np.average(logs[name], weights=logs["images"])) for name in ("mAP", OBJECTS, PIXELS)}
        noted = {FINGERPRINTS: fingerprints(self.members), **self.notes, "out_of_fold": bool(self.out_of_fold)}
        self.fusion = replace(fusion, about={**means, **noted})
        return replace(history, logs=logs)

    def _default_config(self) -> FusionConfig:
        return FusionConfig().update({"KNOWN_DIAMETERS": self._witnesses.known})

    @property
    def needs_whole_images(self) -> bool:
        """True if a member cannot be shown images by regions; see `NucleusModel.needs_whole_images`."""
        return any(member.needs_whole_images for member in self.members.values())

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """Preprocesses an image, uint8 `[H, W, 3]` RGB, for both members: uint8 `[H, W, 9]`."""
        return self._witnesses.prepare(image)

    def preparation(self, sample: Callable[[], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
        """Returns the preprocessing of regions for both members; see `NucleusModel.preparation`."""
        return self._witnesses.preparation(sample)

    def calibrate(self, image: np.ndarray) -> NucleusModel:
        """Calibrates both members; see `NucleusModel.calibrate`."""
        calibrated = copy.copy(self)
        calibrated._witnesses = self._witnesses.calibrate(image)
        return calibrated

    def _predict(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        fusion, predictions = self._fitted(), []
        for index, image in enumerate(images):
            with limits_of([index]):
                predictions.append(fusion.fuse(self._witnesses.testify(image)))
        return predictions

    def _example(self, dataset: NucleusDataset, index: int) -> tuple[FusionExample, dict[str, float]]:
        """Returns an image for the fit, and the average precision of what each member finds in it alone."""
        info = dataset.image_info[index]
        image, (truth, _) = dataset.load_image(index), dataset.load_labels(index)
        witnesses = Witnesses(*self.out_of_fold[info["id"]]) if self.out_of_fold else self._witnesses
        try:
            with warn_of_limits(info["path"]):
                evidence = witnesses.testify(self._to_scale(witnesses, witnesses.prepare(image)))
        except ValueError as error:
            raise ValueError(f"{info['path']}: {error}") from error
        shown = cv2.resize(truth, evidence.shape[::-1], interpolation=cv2.INTER_NEAREST)
        alone = {OBJECTS: evidence.objects_alone(), PIXELS: evidence.nuclei}
        scores = {name: average_precision(shown, found.labels) for name, found in alone.items()}
        return FusionExample.of(info["id"], info["modality"], evidence, shown), scores

    def _to_scale(self, witnesses: Witnesses, shown: np.ndarray) -> np.ndarray:
        """Brings an image to the scale that the settings say, or that the member that rates pixels knows."""
        config, factor = self.config, self.config.SCALE
        if not factor and config.KNOWN_DIAMETERS:
            pixels = np.ascontiguousarray(shown[..., 3:6])
            factor, _ = find_factor(witnesses.pixels, pixels, config.KNOWN_DIAMETERS)
        return Scaled(witnesses.pixels, factor)._show(shown) if factor not in (0, 1) else shown

    def _fitted(self) -> Fusion:
        """Returns the fitted fusion with the rules of the settings."""
        if self.fusion is None:
            raise ValueError("The fusion is not fitted yet: call fit(train, None).")
        ensemble = self.fusion.ensemble
        return replace(self.fusion, ensemble=replace(ensemble, rules=self.config.rules(ensemble.rules.threshold)))


def _by_fold(scores: Sequence[Mapping[str, float]], fold_of: Sequence[int]) -> dict[str, list[float]]:
    """Returns the mean score of each member in every fold."""
    sizes = np.bincount(fold_of)
    return {name: (np.bincount(fold_of, [one[name] for one in scores]) / sizes).tolist() for name in (OBJECTS, PIXELS)}
