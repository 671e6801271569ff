"""U-Nets and FCN-8s as nucleus models: settings, building, training and loading."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nucleus.models.network import DEEP, LEAST_DEEP, RANDOM, NetworkInWords, NetworkModel
from nucleus.models.pixelwise import PixelwiseModel
from nucleus.models.settings import ApplicationSettings
from unet.config import RUN_FILES, UNetConfig
from unet.presets import PRESETS

if TYPE_CHECKING:
    from unet.model import UNet

# Stages of fine-tuning. With the stored statistics of batch normalisation, 50 steps of four windows took nucleus_light
# from a mAP of 0.147 to 0.226 on twenty images with exchanged stains, and to 0.211 with statistics of the batches.
_FINE_TUNING = (("convolutions", 6, 0.0003),)
# Divisor of the filters of a tiny plain encoder's levels, and filters of each level of a tiny decoder.
_NARROWER, _TINY_FILTERS = 16, 16


class NucleusUNetConfig(ApplicationSettings, UNetConfig):
    """A U-Net for nuclei: training, and detection with what was trained."""

    model_kind = "unet"

    AUGMENTATION = "strong"


class UNetModel(PixelwiseModel, NetworkModel):
    """A U-Net or FCN-8s that finds nuclei: nuclei and borders pixel by pixel, then the watershed."""

    kind = "unet"
    summary = "U-Nets and FCN-8s: nuclei and borders pixel by pixel, then the watershed"
    presets = PRESETS
    default_preset = "xception-inceptionse"
    run_files = RUN_FILES
    shipped = "nucleus_light.h5"
    pretrained = ("imagenet",)
    # The encoder of random weights has random ones too.
    from_scratch = {"ENCODER_WEIGHTS": None}
    # A U-Net takes every connected region as a nucleus, so areas beyond the edge may be mirror images.
    mirrors = True

    config: NucleusUNetConfig
    network: UNet

    @classmethod
    def make_config(
        cls, mode: Literal["training", "inference"], preset: str, settings: Mapping[str, Any]
    ) -> NucleusUNetConfig:
        """Returns a configuration; see `nucleus.models.registry.make_config`."""
        encoder = {"ENCODER_WEIGHTS": None} if mode == "inference" else {}
        return NucleusUNetConfig.from_preset(preset, {**settings, **encoder})

    @classmethod
    def keeps_scale(cls, config: NucleusUNetConfig) -> bool:
        """Returns True for windows of images; see `NetworkModel.keeps_scale`."""
        return config.IMAGE_MODE == "crop"

    @classmethod
    def fine_tuning_settings(cls, config: NucleusUNetConfig) -> dict[str, Any]:
        """Returns AdamW with a short warm-up and a cosine to nothing, and batch normalisation that stays as it is.

        There is no moving average of the weights: over so few steps it would stay near the weights at the beginning.
        See `NetworkModel.fine_tuning_settings`.
        """
        return {
            "STAGES": _FINE_TUNING,
            "OPTIMIZER": "AdamW",
            "SCHEDULE": "cosine",
            "WARMUP_STEPS": 10,
            "GRADIENT_CLIP_NORM": 1.0,
            "AVERAGE_MOMENTUM": 0.0,
            "VALIDATION_STEPS": 0,
            "EVALUATE_EVERY": 0,
        }

    @classmethod
    def scratch_settings(cls, config: NucleusUNetConfig, asked: Collection[str] = frozenset()) -> dict[str, Any]:
        """Returns no settings where the user names weights for the encoder; see `NetworkModel.scratch_settings`."""
        if "ENCODER_WEIGHTS" in asked and config.ENCODER_WEIGHTS is not None:
            return {}
        return super().scratch_settings(config, asked)

    @classmethod
    def tiny_settings(cls, config: NucleusUNetConfig) -> dict[str, Any]:
        """Returns one image of 64 x 64 pixels a batch, and few filters for the parts without published weights.

        See `NetworkModel.tiny_settings`.
        """
        if config.ENCODER == "plain":
            filters = {"ENCODER_FILTERS": tuple(max(1, count // _NARROWER) for count in config.ENCODER_FILTERS)}
        else:
            filters = {"DECODER_FILTERS": (_TINY_FILTERS,) * len(config.decoder_filters)}
        encoder = {"ENCODER": LEAST_DEEP} if config.ENCODER in DEEP else {}
        return {"IMAGE_SIZE": 64, "BATCH_SIZE": 1, **filters, **encoder}

    @classmethod
    def describe_settings(cls, config: NucleusUNetConfig) -> NetworkInWords:
        """Returns encoder, decoder, loss, image size and post-processing; see `NetworkModel.describe_settings`."""
        resized = f"images resized to {config.IMAGE_SIZE} x {config.IMAGE_SIZE}"
        return NetworkInWords(
            f"{config.ENCODER} encoder, {config.DECODER} decoder, {config.ACTIVATION}, channels "
            f"{', '.join(config.channels)}, loss {config.LOSS}",
            resized if config.INFERENCE_MODE == "resize" else "images at their own size",
            config.POSTPROCESS,
        )

    @classmethod
    def load_whole(
        cls,
        path: str | os.PathLike,
        config: NucleusUNetConfig | None = None,
        model_dir: str | os.PathLike = "logs",
    ) -> UNetModel:
        """Returns the model of a `.keras` file, which holds network, weights and settings.

        Args:
            path: File that `unet.model.UNet.save` wrote.
            config: Configuration that replaces the file's, of the same network; see `whole_config`.
            model_dir: Folder in which every training run gets its own.

        Raises:
            WeightsFileError: The file is missing, damaged or no U-Net's, or holds another network than the
                configuration's.
        """
        from unet.model import UNet

        network = UNet.load(path, model_dir, NucleusUNetConfig, config)
        model = cls(None, network.config, model_dir)
        model.network = network
        return model

    @classmethod
    def whole_config(cls, path: str | os.PathLike, settings: Mapping[str, Any]) -> NucleusUNetConfig:
        """Returns the configuration in a `.keras` file, with some settings changed.

        Args:
            path: File that `unet.model.UNet.save` wrote.
            settings: Attribute name -> value, on top of the file's.

        Raises:
            WeightsFileError: The file is missing, damaged or no U-Net's.
            SettingsError: A setting cannot be used.
        """
        from unet.saved import read_settings

        return read_settings(path, NucleusUNetConfig).update(dict(settings))

    def _begin(self, weights: str, path: Path | None) -> UNet:
        from unet.model import UNet
        from unet.weights import holds_an_encoder_alone

        encoder_alone = path is not None and weights != "last" and holds_an_encoder_alone(path)
        if weights != RANDOM:
            encoder = str(path) if encoder_alone else "imagenet" if path is None else None
            self.training_config.update({"ENCODER_WEIGHTS": encoder})
        network = UNet(self.training_config, self.model_dir)
        if path is not None and not encoder_alone:
            network.load_weights(path, by_name=weights != "last")
        return network

    def _load(self, weights: str | os.PathLike) -> UNet:
        from unet.model import UNet

        network = UNet(self.config, self.model_dir)
        network.load_weights(str(weights))
        return network

    def _trainer(self) -> Callable[..., dict[str, list[float]]]:
        self.network.config = self.training_config
        return self.network.train
