"""Settings of a fusion."""

from __future__ import annotations

from nucleus.ensemble.config import ChoiceConfig
from nucleus.models.settings import SizeSettings
from trainkit.presets import Preset
from trainkit.settings import SettingsError

PRESETS: dict[str, Preset] = {
    "objects-and-pixels": Preset(
        summary="probabilities of pixels by logistic regression, and trees that choose objects", source="This project"
    ),
}


class FusionConfig(ChoiceConfig, SizeSettings):
    """Settings of a fusion, whose members see the same tiles at the same scale, each preprocessed in its own way."""

    model_kind = "fusion"
    member_settings = ("OBJECTS", "PIXELS")

    # The model that finds objects and the one that rates pixels, names or files as `nucleus.load_model` takes them. The
    # file of a fusion names its own.
    OBJECTS = "mask_rcnn"
    PIXELS = "unet"

    # Empty: those of the model that rates pixels.
    KNOWN_DIAMETERS = ()

    def validate(self) -> None:
        """Checks the settings; see `Settings.validate`.

        Raises:
            SettingsError: A value is out of its range; the message names the attribute.
        """
        super().validate()
        for name in ("OBJECTS", "PIXELS"):
            if not getattr(self, name).strip():
                raise SettingsError(f"{name} needs the name or the file of a model. Received: {getattr(self, name)!r}")
