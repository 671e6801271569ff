"""The fusion as a nucleus model: its members, building, fitting, saving and prediction."""

from __future__ import annotations

import copy
import hashlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np
from tqdm import tqdm

from nucleus.datasets.dataset import DatasetError
from nucleus.datasets.folds import Folds, divide_images
from nucleus.ensemble.boosting import import_lightgbm
from nucleus.ensemble.fingerprints import exchanged, fingerprints
from nucleus.ensemble.fitted import FINGERPRINTS
from nucleus.ensemble.fitting import FitSettings
from nucleus.ensemble.fusion.config import PRESETS, FusionConfig
from nucleus.ensemble.fusion.evidence import Witnesses
from nucleus.ensemble.fusion.fitting import FusionExample, fit
from nucleus.ensemble.fusion.fused import Fusion, read_fusion
from nucleus.ensemble.fusion.objects import OBJECTS, PIXELS
from nucleus.ensemble.sources import absolute, find_source, loadable, relative
from nucleus.ensemble.validation import CrossValidation
from nucleus.evaluation.scores import average_precision
from nucleus.models.base import History, NucleusModel, Prediction
from nucleus.models.limits import limits_of, warn_of_limits
from nucleus.models.recipe import Recipe, changed_settings
from nucleus.models.scale import Scaled, find_factor

if TYPE_CHECKING:
    import keras

    from nucleus.datasets.dataset import NucleusDataset

_log = logging.getLogger(__name__)

# Settings that the file of a fusion has elsewhere.
_ELSEWHERE = ("OBJECTS", "PIXELS", "FEATURES", "NMS_THRESHOLD", "LEAST_VISIBLE")


class FusionModel(NucleusModel):
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
            for name in exchanged(fusion.about.get(FINGERPRINTS, {}), self.members):
                _log.warning(
                    "The model of the fusion's %s is another one than the fusion was fitted to, so its probabilities "
                    "do not hold. Give that model, or fit the fusion again",
                    name,
                )
        if config is None:
            config = FusionConfig() if fusion is None else FusionConfig.of(fusion)
        if not config.KNOWN_DIAMETERS:
            config = copy.copy(config).update({"KNOWN_DIAMETERS": self._witnesses.known})
        self.fusion, self.files, self.config = fusion, dict(files or {}), config
        self.folds, self.out_of_fold, self.notes = folds, dict(out_of_fold or {}), dict(notes or {})
        self.cross_validation: CrossValidation | None = None

    @classmethod
    def make_config(
        cls, mode: Literal["training", "inference"], preset: str, settings: Mapping[str, Any]
    ) -> FusionConfig:
        """Returns a configuration, the same in both modes; see `nucleus.models.registry.make_config`."""
        return FusionConfig().update({**PRESETS[preset].settings, **settings})

    @classmethod
    def begin(cls, config: FusionConfig, load_member: Callable[[str | Path], NucleusModel]) -> FusionModel:
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
        load_member: Callable[[str | Path], NucleusModel],
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
        if config is not None and (config.OBJECTS, config.PIXELS) != (FusionConfig.OBJECTS, FusionConfig.PIXELS):
            raise ValueError(
                f"{path}: has members of its own. Received: OBJECTS={config.OBJECTS}, PIXELS={config.PIXELS}"
            )
        if not fusion.weights:
            raise ValueError(
                f"{path}: names no weights of its members: FusionModel(objects, pixels, read_fusion(path))"
            )
        folder = Path(path).resolve().parent
        files = {name: absolute(source, folder) for name, source in fusion.weights.items()}
        members = {name: load_member(loadable(file)) for name, file in files.items()}
        model = cls(**members, fusion=fusion, files=files, config=config)
        if model._witnesses.channels != fusion.channels:
            raise ValueError(
                f"{path}: was fitted with the channels {', '.join(fusion.channels)}. {fusion.weights[PIXELS]} has "
                f"{', '.join(model._witnesses.channels)}: fit the fusion again"
            )
        return model

    @classmethod
    def read_recipe(cls, path: str | os.PathLike) -> Recipe:
        """Returns the recipe of a fusion's file: its settings, without its members and weights.

        Args:
            path: File that `save` wrote.

        Raises:
            ValueError: The file is damaged.
        """
        config = FusionConfig.of(read_fusion(path))
        return Recipe(cls.default_preset, changed_settings(config, FusionConfig()), cls.kind)

    def fit(
        self,
        train: NucleusDataset,
        val: NucleusDataset | None,
        *,
        epochs: int | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> History:
        """Learns the probabilities of pixels and objects and the choice, on images that no member was trained on.

        About 3 MB an image are held in memory. The scores out of fold are then in `cross_validation.report`.

        Args:
            train: Prepared data set with masks, without preprocessing.
            val: Not used: scores are cross-validated over the folds of `train`.
            epochs: Not used: the number of trees is fixed.
            callbacks: Not used.

        Returns:
            A step for every fold: its number of `images`, the `threshold` chosen on the other folds, and the `mAP` of
            a fusion whose choice was fitted to these, beside that of each member alone, `objects` and `pixels`.

        Raises:
            DatasetError: The data set has no image or preprocesses them.
            NothingToLearnError: The members found nothing near a nucleus, or nothing in the images of a fold.
            ValueError: LightGBM is missing, or the models of folds differ in their channels.
        """
        import_lightgbm()
        if train.preprocessing is not None:
            raise DatasetError("Members preprocess images themselves: fit on a dataset without preprocessing.")
        if len(train.image_ids) == 0:
            raise DatasetError("There is no image to fit a fusion to.")
        folds = self.folds or divide_images(train.image_info, self.config.FOLDS, self.config.SEED)
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

    def save(self, path: str | os.PathLike) -> None:
        """Writes the fusion as JSON, with the files of its members relative to it where they are known.

        Args:
            path: File to write, ending in `.json`.

        Raises:
            ValueError: Nothing has been fitted.
            OSError: The file cannot be written.
        """
        folder = Path(path).resolve().parent
        weights = {name: relative(file, folder) for name, file in self.files.items()}
        own = FusionConfig().update({"KNOWN_DIAMETERS": self._witnesses.known})
        changed = changed_settings(self.config, own)
        settings = {name: value for name, value in changed.items() if name not in _ELSEWHERE}
        replace(self._fitted(), weights=weights, settings=settings).save(path)

    def describe(self) -> dict[str, Any]:
        """Adds the members and the fitted regressions, trees and rules; see `NucleusModel.describe`."""
        members = {name: member.describe() for name, member in self.members.items()}
        digest = hashlib.sha256(replace(self._fitted(), weights={}, settings={}).to_json().encode()).hexdigest()
        return {**super().describe(), "members": members, "fusion": f"sha256:{digest}"}

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
    numbers = np.array(fold_of)
    return {
        name: [
            float(np.mean([one[name] for one, fold in zip(scores, fold_of, strict=True) if fold == number]))
            for number in range(numbers.max() + 1)
        ]
        for name in (OBJECTS, PIXELS)
    }
