"""Settings of an ensemble, and its presets."""

from __future__ import annotations

from typing import Any, ClassVar

from nucleus.ensemble.features import GROUPS, feature_names
from nucleus.ensemble.fitted import FittedFile, Rules
from nucleus.ensemble.selection import LEAST_VISIBLE, NMS_THRESHOLD
from nucleus.models.settings import PredictionSettings, ViewSettings
from trainkit.presets import Preset
from trainkit.settings import SettingsError

PRESETS: dict[str, Preset] = {
    "all-features": Preset(
        summary="every group of features, and the threshold with the best mAP (the default)",
        source="This project",
    ),
    "vuola": Preset(
        summary="shape alone, fixed thresholds, and nothing dropped for what better nuclei leave of it",
        source="Vuola, Nuclei segmentation using computer vision, 2019, section 4.3",
        settings={"FEATURES": "shape", "THRESHOLD": 0.3, "NMS_THRESHOLD": 0.3, "LEAST_VISIBLE": 0.0},
    ),
}


class ChoiceConfig(ViewSettings):
    """Settings of a model that chooses among masks: how the trees are fitted, and which masks are kept."""

    # Names of the settings that name the members.
    member_settings: ClassVar[tuple[str, ...]]

    _OPTIONAL = ("THRESHOLD",)
    _TYPES = {"THRESHOLD": float}

    # ---- Fit: see nucleus.ensemble.fitting ----
    # Groups of features to learn from, separated by commas: shape, member, score, intensity, neighbours, agreement.
    FEATURES = ",".join(GROUPS)
    # Number of folds of the images for the reported scores and for the threshold, at least 3, or 2 with a THRESHOLD.
    FOLDS = 4
    # Seed of folds and trees.
    SEED = 0
    # Threads that the trees are fitted with; the result does not depend on it.
    THREADS = 1

    # ---- Nuclei: see nucleus.ensemble.selection ----
    # Minimum predicted IoU of a nucleus that is kept; None for the one with the best mAP in the fit.
    THRESHOLD = None
    # IoU with a better nucleus above which a nucleus is dropped.
    NMS_THRESHOLD = NMS_THRESHOLD
    # Minimum share of a nucleus that better ones leave uncovered; 0 keeps any rest.
    LEAST_VISIBLE = LEAST_VISIBLE

    @classmethod
    def of(cls, fitted: FittedFile) -> ChoiceConfig:
        """Returns the settings with which a fitted model was saved.

        Args:
            fitted: The fitted model.

        Raises:
            SettingsError: The settings of its file cannot be used.
        """
        rules = fitted.choice.rules
        kept = {"NMS_THRESHOLD": rules.nms_threshold, "LEAST_VISIBLE": rules.least_visible}
        return cls().update({"FEATURES": ",".join(fitted.choice.groups), **kept, **fitted.settings})

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups of features to learn from."""
        return split(self.FEATURES)

    def rules(self, fitted: float = Rules.threshold) -> Rules:
        """Returns the rules by which nuclei are chosen.

        Args:
            fitted: Minimum predicted IoU where THRESHOLD is None.
        """
        threshold = fitted if self.THRESHOLD is None else self.THRESHOLD
        return Rules(threshold, self.NMS_THRESHOLD, self.LEAST_VISIBLE)

    def _convert(self, name: str, value: Any) -> Any:
        if name in PredictionSettings().to_dict() and name not in self.to_dict():
            kind, article = self.model_kind, "an" if self.model_kind[0] in "aeiou" else "a"
            raise SettingsError(
                f"{name} is a setting of {article} {kind}'s members, not of the {kind}: set it in theirs, or run one "
                "of them alone (such as the shipped U-Net, --model=unet)."
            )
        return super()._convert(name, value)

    def validate(self) -> None:
        """Checks the settings; see `Settings.validate`.

        Raises:
            SettingsError: A value is out of its range; the message names the attribute.
        """
        super().validate()
        self.require_at_least(0, "SEED")
        self.require_at_least(1, "THREADS")
        self.require_at_least(2 if self.THRESHOLD is not None else 3, "FOLDS")
        self.require_probability(
            "NMS_THRESHOLD", "LEAST_VISIBLE", *(("THRESHOLD",) if self.THRESHOLD is not None else ())
        )
        try:
            feature_names(self.groups, ())
        except ValueError as error:
            raise SettingsError(f"FEATURES: {error}") from error


class EnsembleConfig(ChoiceConfig):
    """Settings of an ensemble. Its members have their own preprocessing, tiles and test-time augmentation."""

    model_kind = "ensemble"
    member_settings = ("MEMBERS",)

    # Members of a new ensemble, separated by commas: names or files, as `nucleus.load_model` takes them. The file of an
    # ensemble names its own.
    MEMBERS = "mask_rcnn,unet"

    def validate(self) -> None:
        """Checks the settings; see `Settings.validate`.

        Raises:
            SettingsError: A value is out of its range; the message names the attribute.
        """
        super().validate()
        if not split(self.MEMBERS):
            raise SettingsError(f"MEMBERS needs one model at least. Received: {self.MEMBERS!r}")


def split(text: str) -> tuple[str, ...]:
    """Returns the parts of a text between commas, without spaces around them.

    Args:
        text: The text.

    Examples:
        >>> split("shape, score")
        ('shape', 'score')
    """
    return tuple(part.strip() for part in text.split(",") if part.strip())
