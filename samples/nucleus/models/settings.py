"""Settings that the configurations of all models share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nucleus.augmentation.augmenters import AUGMENTATIONS
from nucleus.images.decoding import NO_CHOICE, Planes
from nucleus.models.views import View, make_views
from trainkit.settings import Settings, SettingsError


class ViewSettings(Settings):
    """Test-time augmentation: the views in which a model is shown every image, and how their nuclei are merged."""

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


class TileSettings(Settings):
    """Tiles: the parts in which a model is shown a large image; see `nucleus.models.tiles` for the rule at seams."""

    # Largest side in pixels of the overlapping tiles in which a large image is predicted. An image of up to twice the
    # pixels of such a tile (2 x 1024 x 1024: up to 1448 x 1448) is predicted whole. Memory grows with the square of the
    # side. 0: every image is predicted whole, whatever its size.
    TILE_SIZE = 1024
    # Least overlap in pixels of neighbouring tiles, at most half of TILE_SIZE. Nuclei of up to seven eighths of it are
    # seen whole by some tile; of larger ones the parts are joined. Time grows with it.
    TILE_OVERLAP = 128
    # Images of more than LAZY_SIZE x LAZY_SIZE pixels are read by regions and never decoded whole, where their format
    # allows it (TIFF, OME-Zarr, whole slides, microscopes' own). 0: every image is decoded whole.
    LAZY_SIZE = 8192
    # Leaves out the tiles of such an image that are empty glass, in bright field; see `nucleus.images.tissue`.
    SKIP_GLASS = True

    def validate(self) -> None:
        """Checks the settings; see `Settings.validate`.

        Raises:
            SettingsError: A value is out of its range; the message names the attribute.
        """
        super().validate()
        self.require_at_least(0, "TILE_SIZE", "LAZY_SIZE")
        self.require_at_least(16, "TILE_OVERLAP")
        if self.TILE_SIZE and 2 * self.TILE_OVERLAP > self.TILE_SIZE:
            raise SettingsError(
                "TILE_OVERLAP must be at most half of TILE_SIZE. "
                f"Received: TILE_OVERLAP={self.TILE_OVERLAP}, TILE_SIZE={self.TILE_SIZE}"
            )


class ScaleSettings(Settings):
    """Scale: how large images are shown to a model; see `nucleus.models.scale` for how the scale is found."""

    # Least, typical and largest diameter in pixels of the nuclei that the model knows. Empty: unknown, and images keep
    # their size unless SCALE is set.
    KNOWN_DIAMETERS = ()
    # Factor of height and width at which the model is shown every image; 1 leaves images as they are. 0: found for
    # every image from the diameter of its nuclei, or from DIAMETER.
    SCALE = 0.0
    # Diameter of the nuclei in pixels of the images, which are shown at the scale that brings it to the typical one of
    # KNOWN_DIAMETERS. 0: unknown.
    DIAMETER = 0.0
    # The same in µm: the scale follows from the size of each image's pixels, which must be known. 0: unknown.
    DIAMETER_UM = 0.0

    def validate(self) -> None:
        """Checks the settings; see `Settings.validate`.

        Raises:
            SettingsError: A value is out of its range; the message names the attribute.
        """
        super().validate()
        names = ("SCALE", "DIAMETER", "DIAMETER_UM")
        self.require_at_least(0, *names)
        given = {name: getattr(self, name) for name in names if getattr(self, name)}
        if len(given) > 1:
            raise SettingsError(
                f"{' and '.join(given)} exclude each other. Received: {' and '.join(map(str, given.values()))}"
            )
        known = self.KNOWN_DIAMETERS
        if len(known) and (len(known) != 3 or not 0 < known[0] <= known[1] <= known[2]):
            raise SettingsError(f"KNOWN_DIAMETERS needs three rising numbers above 0, or none. Received: {known!r}")


class SizeSettings(TileSettings, ScaleSettings):
    """Tiles and scale: how images of any size are shown to a model."""


class PredictionSettings(ViewSettings, SizeSettings):
    """Preprocessing of every image, its views, tiles and scale; in every configuration of a model that looks itself."""

    # Contrast limited adaptive histogram equalisation of the luminance, in training and in inference alike. Off
    # by default because weights belong to images prepared as in their training.
    CLAHE = False
    CLAHE_CLIP_LIMIT = 2.0
    # Tiles down and across the image.
    CLAHE_TILE_GRID = (8, 8)
    # Brightness stretched from one quantile of an image to another, before CLAHE if both are on; see
    # `nucleus.images.stretch`.
    STRETCH = False
    STRETCH_QUANTILES = (0.01, 0.998)
    # Channel that files of several are read by, unless a command names another: its name or number, or three for red,
    # green and blue, joined by "|". A training records its --channel here. Empty: such files are refused without a
    # choice. Arrays in Python are not concerned.
    FILE_CHANNEL = ""

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
        try:
            self.planes()
        except ValueError as error:
            raise SettingsError(f"FILE_CHANNEL: {error}") from error

    def planes(self) -> Planes:
        """Returns the choice of the channel that the model was trained on; of none if that is not recorded."""
        return Planes(self.FILE_CHANNEL.split("|"), learned=True) if self.FILE_CHANNEL else NO_CHOICE


class ApplicationSettings(PredictionSettings):
    """Settings of the application around a network: training and result; mixed into the configuration of each."""

    NAME = "nucleus"
    # Key of augmenters.AUGMENTATIONS.
    AUGMENTATION = "lineage"
    # Probability that an image of stained tissue takes on the colours of another one of its modality in training
    # (Reinhard et al. 2001); grey images never do.
    COLOUR_TRANSFER = 0.0
    # Probability that an image is given copies of nuclei from others of its modality in training, the highest number
    # of them as a share of the nuclei that it has, and how many of them touch another nucleus: for models that fail to
    # tell clumps apart.
    COPY_PASTE = 0.0
    COPY_PASTE_SHARE = 0.5
    COPY_PASTE_TOUCHING = 0.3
    # Epochs between two evaluations of the validation images while training; 0 switches them off.
    EVALUATE_EVERY = 5
    # Epoch of the first of these evaluations; 0: EVALUATE_EVERY.
    EVALUATE_FROM = 0
    # Instances of fewer pixels are dropped from the result; 0 keeps all.
    MIN_AREA = 0
    # Megabytes (2^20 bytes) of decoded images and label images that a training keeps of each subset; with 0 only the
    # images of the batches in flight are in memory.
    IMAGE_CACHE_MB = 256

    def validate(self) -> None:
        """Checks the settings; see `Settings.validate`.

        Raises:
            SettingsError: A value is out of its range; the message names the attribute.
        """
        super().validate()
        self.require_choice("AUGMENTATION", AUGMENTATIONS)
        self.require_at_least(0, "EVALUATE_EVERY", "EVALUATE_FROM", "MIN_AREA", "IMAGE_CACHE_MB")
        self.require_share("COPY_PASTE_SHARE")
        self.require_probability("COLOUR_TRANSFER", "COPY_PASTE", "COPY_PASTE_TOUCHING")


# Training batches and initial weights are irrelevant to detection.
_TRAINING_ONLY = ("GPU_COUNT", "IMAGES_PER_GPU", "ENCODER_WEIGHTS")


def inference_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of a training that also apply to detection with its model.

    Args:
        settings: Attribute name -> value.
    """
    return {
        name: value
        for name, value in settings.items()
        if name not in _TRAINING_ONLY and not (name == "IMAGE_RESIZE_MODE" and value == "crop")
    }
