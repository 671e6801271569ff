"""Backbones by name: how each is built, its ImageNet weights, and the names of its layers.

A new backbone is one entry in `BACKBONES`. Nothing here imports Keras, so that settings can be checked without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

_HEADS = r"(mrcnn\_.*)|(rpn\_.*)|(fpn\_.*)"


@dataclass(frozen=True)
class Backbone:
    r"""A network whose stages C2 to C5 the feature pyramid is built on (Lin et al. 2017, section 3).

    Attributes:
        build: Function `(image, stage5=True, train_bn=False) -> [C1, C2, C3, C4, C5]` in symbols of Keras. The image is
            `[B, H, W, C]`, H and W multiples of 64; C2 to C5 have strides 4, 8, 16 and 32, sizes rounded up. The
            pyramid does not use C1, whose stride is 4 in the lineage. `train_bn` is the configuration's TRAIN_BN.
        imagenet: Name of its published weights in `trainkit.imagenet.IMAGENET_NETWORKS`, None if there are none. Its
            layers are then named as `mrcnn.weights.imagenet_name` knows them.
        stage_layers: Regular expressions over the names of the layers of stage 3, stage 4 and stage 5; by default the
            lineage's names, `res3a_branch2a`, `bn3a_branch2a`, …
        prepare: Function `(image, mean_pixel) -> image` from pixels minus the configuration's MEAN_PIXEL to what
            `build` takes; None if it takes them as they are.
    """

    build: Callable[..., Sequence[Any]]
    imagenet: str | None = None
    stage_layers: tuple[str, str, str] = ("(res3.*)|(bn3.*)", "(res4.*)|(bn4.*)", "(res5.*)|(bn5.*)")
    prepare: Callable[..., Any] | None = None

    def layer_sets(self) -> dict[str, str]:
        r"""Returns the sets of layers that `MaskRCNN.train` knows by name, as regular expressions over layer names.

        Examples:
            >>> BACKBONES["resnet50"].layer_sets()["5+"]
            '(res5.*)|(bn5.*)|(mrcnn\\_.*)|(rpn\\_.*)|(fpn\\_.*)'
        """
        c3, c4, c5 = self.stage_layers
        return {
            "heads": _HEADS,
            "3+": f"{c3}|{c4}|{c5}|{_HEADS}",
            "4+": f"{c4}|{c5}|{_HEADS}",
            "5+": f"{c5}|{_HEADS}",
            "all": ".*",
        }


def _resnet(architecture: str) -> Callable[..., Sequence[Any]]:
    def build(image: Any, stage5: bool = True, train_bn: bool | None = False) -> Sequence[Any]:
        from mrcnn.backbone import resnet_graph

        return resnet_graph(image, architecture, stage5=stage5, train_bn=train_bn)

    return build


def _efficientnet_lite0(image: Any, stage5: bool = True, train_bn: bool | None = False) -> Sequence[Any]:
    from mrcnn.backbone import efficientnet_lite0_graph

    return efficientnet_lite0_graph(image, stage5=stage5, train_bn=train_bn)


def _lite_pixels(image: Any, mean_pixel: Any) -> Any:
    from mrcnn.backbone import lite_pixels

    return lite_pixels(image, mean_pixel)


BACKBONES: dict[str, Backbone] = {
    "resnet50": Backbone(_resnet("resnet50"), imagenet="resnet50"),
    "resnet101": Backbone(_resnet("resnet101"), imagenet="resnet101"),
    "efficientnet-lite0": Backbone(
        _efficientnet_lite0,
        imagenet="efficientnet-lite0",
        # Its stages count from 1 at stride 2, and strides 16 and 32 have two each.
        stage_layers=("block3.*", "block[45].*", "block[67].*"),
        prepare=_lite_pixels,
    ),
}


def find_backbone(backbone: str | Callable[..., Sequence[Any]]) -> Backbone:
    """Returns the entry of a configuration's BACKBONE; a function becomes one with the lineage's layer names.

    Args:
        backbone: Key of `BACKBONES`, or a function as `Backbone.build`.
    """
    return Backbone(backbone) if callable(backbone) else BACKBONES[backbone]


def build_backbone(image: Any, config: Any) -> list[Any]:
    """Builds the configuration's backbone.

    Args:
        image: `[B, H, W, C]`, the network's input: pixels minus MEAN_PIXEL.
        config: Uses BACKBONE, MEAN_PIXEL and TRAIN_BN.

    Returns:
        [C1, C2, C3, C4, C5], each `[B, h, w, channels]`.
    """
    backbone = find_backbone(config.BACKBONE)
    if backbone.prepare is not None:
        image = backbone.prepare(image, config.MEAN_PIXEL)
    return list(backbone.build(image, stage5=True, train_bn=config.TRAIN_BN))
