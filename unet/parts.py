"""Encoders, decoders and losses of a U-Net by name: the one list of each.

Settings are checked and `--help` is printed without Keras, so an entry names its function as text, and the function's
module is imported when the part is first looked up. A new part is a function and an entry; a program may enter a
function of its own, `ENCODERS["mine"] = my_encoder`, before it makes a configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from pkgutil import resolve_name
from typing import Any


class Parts(MutableMapping[str, Callable[..., Any]]):
    """Functions by name, each imported when it is looked up.

    Args:
        entries: Name -> "module:function".

    Examples:
        >>> parts = Parts({"root": "math:sqrt"})
        >>> parts["double"] = lambda number: 2 * number
        >>> list(parts), parts["root"](9), parts["double"](9)
        (['root', 'double'], 3.0, 18)
    """

    def __init__(self, entries: dict[str, str]):
        self._entries: dict[str, str | Callable[..., Any]] = dict(entries)

    def __getitem__(self, name: str) -> Callable[..., Any]:
        entry = self._entries[name]
        return resolve_name(entry) if isinstance(entry, str) else entry

    def __setitem__(self, name: str, function: Callable[..., Any]) -> None:
        self._entries[name] = function

    def __delitem__(self, name: str) -> None:
        del self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        # A mapping would import the part to find out.
        return name in self._entries


# Encoder: (image [B, H, W, C] in 0..255, UNetConfig) -> list[Skip] of rising stride, the bottleneck last.
ENCODERS = Parts(
    {
        "plain": "unet.encoders:plain_encoder",
        "xception": "unet.encoders:xception_encoder",
        "resnet50": "unet.encoders:resnet50_encoder",
        "resnet101": "unet.encoders:resnet101_encoder",
        "resnet152": "unet.encoders:resnet152_encoder",
        "vgg16": "unet.encoders:vgg16_encoder",
        "efficientnet-lite0": "unet.encoders:efficientnet_lite0_encoder",
    }
)
# Decoder: (list[Skip], UNetConfig) -> logits [B, H, W, output channels].
DECODERS = Parts(
    {
        "plain": "unet.decoders:plain_decoder",
        "inception-se": "unet.decoders:inception_se_decoder",
        "fpn": "unet.decoders:fpn_decoder",
        "fcn8s": "unet.fcn:fcn8s_decoder",
    }
)
# Loss: (y_true [B, H, W, C], y_pred [B, H, W, C], channel weights [C] or None) -> float32 scalar.
LOSSES = Parts(
    {
        "bce": "unet.losses:bce",
        "dice": "unet.losses:soft_dice",
        "bce-dice": "unet.losses:bce_dice",
        "weighted-bce": "unet.losses:weighted_bce",
    }
)
