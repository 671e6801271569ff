"""The settings that the configurations of all models share."""

from __future__ import annotations

from nucleus.views import View, make_views
from trainkit.settings import Settings, SettingsError


class ViewSettings(Settings):
    """Test-time augmentation: in which views a model is shown every image, and how what it finds in them is merged."""

    # One of views.SYMMETRIES: how an image is flipped and turned. A U-Net's probabilities are averaged over the views;
    # of other models the instances vote. Thresholds that were tuned without may not fit the averages.
    TEST_TIME_AUGMENTATION = "none"
    # Each of these views is shown at each of these scales. A model that brings images to a size of its own undoes them.
    TEST_TIME_SCALES = (1.0,)
    # Share of the views that must show an instance, where instances vote. Higher finds less and is more often right.
    TEST_TIME_VOTES = 0.5

    def validate(self) -> None:
        """Checks the settings; see `Settings.validate`.

        Raises:
            SettingsError: A value is out of its range; the message names the attribute.
        """
        super().validate()
        self.require_share("TEST_TIME_VOTES")
        try:
            self.make_views()
        except ValueError as error:
            raise SettingsError(f"TEST_TIME_AUGMENTATION and TEST_TIME_SCALES: {error}") from error

    def make_views(self) -> tuple[View, ...]:
        """Returns the views of every image, only the unchanged one where there is no test-time augmentation."""
        return make_views(self.TEST_TIME_AUGMENTATION, self.TEST_TIME_SCALES)


class PredictionSettings(ViewSettings):
    """What happens to every image before nuclei are found in it, and in which views; in every configuration."""

    # Contrast limited adaptive histogram equalisation of the luminance, in training and in inference alike. Off
    # by default because weights belong to images prepared as in their training.
    CLAHE = False
    CLAHE_CLIP_LIMIT = 2.0
    # Tiles down and across the image.
    CLAHE_TILE_GRID = (8, 8)

    # Brightness stretched from one quantile of an image to another, before CLAHE if both are on; see `nucleus.stretch`.
    STRETCH = False
    STRETCH_QUANTILES = (0.01, 0.998)

    def validate(self) -> None:
        """Checks the settings; see `Settings.validate`.

        Raises:
            SettingsError: A value is out of its range; the message names the attribute.
        """
        super().validate()
        self.require_each(0, 2, "STRETCH_QUANTILES")
        if not self.STRETCH_QUANTILES[0] < self.STRETCH_QUANTILES[1] <= 1:
            raise SettingsError(f"STRETCH_QUANTILES must rise from 0 to 1. Received: {self.STRETCH_QUANTILES!r}")
        if self.CLAHE_CLIP_LIMIT <= 0:
            raise SettingsError(f"CLAHE_CLIP_LIMIT must be above 0. Received: {self.CLAHE_CLIP_LIMIT!r}")
        grid = self.CLAHE_TILE_GRID
        if len(grid) != 2 or any(not isinstance(tiles, int) or tiles < 1 for tiles in grid):
            raise SettingsError(f"CLAHE_TILE_GRID needs two whole numbers above 0. Received: {grid!r}")
