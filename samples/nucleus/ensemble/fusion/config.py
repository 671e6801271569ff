"""Settings of a fusion."""

from __future__ import annotations

from nucleus.ensemble.config import ChoiceConfig
from trainkit.presets import Preset
from trainkit.settings import SettingsError

PRESETS: dict[str, Preset] = {
    "objects-and-pixels": Preset(
        summary="probabilities of pixels by logistic regression, and trees that choose objects", source="This project"
    ),
}


class FusionConfig(ChoiceConfig):
    """Settings of a fusion. Its members have their own preprocessing, tiles and test-time augmentation."""

    model_kind = "fusion"
    member_settings = ("OBJECTS", "PIXELS")

    # The model that finds objects and the one that rates pixels, names or files as `nucleus.load_model` takes them. The
    # file of a fusion names its own.
    OBJECTS = "mask_rcnn"
    PIXELS = "unet"

    def validate(self) -> None:
        """Checks the settings; see `Settings.validate`.

        Raises:
            SettingsError: A value is out of its range; the message names the attribute.
        """
        super().validate()
        for name in ("OBJECTS", "PIXELS"):
            if not getattr(self, name).strip():
                raise SettingsError(f"{name} needs the name or the file of a model. Received: {getattr(self, name)!r}")
