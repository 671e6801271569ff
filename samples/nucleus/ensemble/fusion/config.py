"""Settings of a fusion."""

from __future__ import annotations

from typing import Any

from nucleus.ensemble.fusion.fused import Fusion, FusionRules
from nucleus.models.settings import PredictionSettings, ViewSettings
from trainkit.presets import Preset
from trainkit.settings import SettingsError

PRESETS: dict[str, Preset] = {
    "logistic": Preset(summary="probabilities of pixels and of objects by logistic regression", source="This project"),
}


class FusionConfig(ViewSettings):
    """Settings of a fusion. Its members have their own preprocessing, tiles and test-time augmentation."""

    model_kind = "fusion"

    _OPTIONAL = ("THRESHOLD",)
    _TYPES = {"THRESHOLD": float}

    # ---- Fit: see nucleus.ensemble.fusion.fitting ----
    # The model that finds objects and the one that rates pixels, names or files as `nucleus.load_model` takes them. The
    # file of a fusion names its own.
    OBJECTS = "mask_rcnn"
    PIXELS = "unet"
    # Number of folds of the images for the reported scores, 2 or more.
    FOLDS = 4
    # Seed of folds and of the choice of pixels.
    SEED = 0

    # ---- Nuclei: see nucleus.ensemble.fusion.fused ----
    # Minimum probability of a nucleus that is kept; None for the one with the best mAP in the fit.
    THRESHOLD = None
    # Minimum share of a nucleus that more probable ones leave uncovered; 0 keeps any rest.
    LEAST_VISIBLE = FusionRules.least_visible
    # Nuclei of fewer pixels, at the scale at which PIXELS is shown the image, are dropped; 0 keeps all.
    MIN_AREA = FusionRules.min_area

    @classmethod
    def of(cls, fusion: Fusion) -> FusionConfig:
        """Returns the settings with which a fitted fusion was saved.

        Args:
            fusion: The fitted fusion.

        Raises:
            SettingsError: The settings of its file cannot be used.
        """
        rules = {"LEAST_VISIBLE": fusion.rules.least_visible, "MIN_AREA": fusion.rules.min_area}
        return cls().update({**rules, **fusion.settings})

    def rules(self, fitted: float = FusionRules.threshold) -> FusionRules:
        """Returns the rules by which objects are chosen.

        Args:
            fitted: Minimum probability where THRESHOLD is None.
        """
        return FusionRules(fitted if self.THRESHOLD is None else self.THRESHOLD, self.LEAST_VISIBLE, self.MIN_AREA)

    def _convert(self, name: str, value: Any) -> Any:
        if name in PredictionSettings().to_dict() and name not in self.to_dict():
            raise SettingsError(f"{name} is a setting of a fusion's members, not of the fusion: set it in theirs.")
        return super()._convert(name, value)

    def validate(self) -> None:
        """Checks the settings; see `Settings.validate`.

        Raises:
            SettingsError: A value is out of its range; the message names the attribute.
        """
        super().validate()
        self.require_at_least(0, "SEED", "MIN_AREA")
        self.require_at_least(2, "FOLDS")
        self.require_probability("LEAST_VISIBLE", *(("THRESHOLD",) if self.THRESHOLD is not None else ()))
        for name in ("OBJECTS", "PIXELS"):
            if not getattr(self, name).strip():
                raise SettingsError(f"{name} needs the name or the file of a model. Received: {getattr(self, name)!r}")
