"""Values of options, read from text; a value that cannot be used is a usage error of the command."""

from __future__ import annotations

import argparse
import math
from functools import partial
from pathlib import Path

from nucleus.images.decoding import ALL
from nucleus.models.network import PUBLISHED_WEIGHTS, RANDOM
from nucleus.models.registry import MODELS, NETWORKS
from nucleus.models.views import SYMMETRIES
from nucleus.prediction.writers import CHOICES


def setting(text: str) -> tuple[str, str]:
    """Reads NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, received {text!r}")
    return name.strip(), value.strip()


def scale(text: str) -> tuple[str, float]:
    """Reads a factor of the scale, or "auto", as a setting."""
    return "SCALE", 0.0 if text == "auto" else length(text)


def diameter(text: str) -> tuple[str, float]:
    """Reads a diameter, in pixels or with the unit um or µm, as a setting."""
    for unit in ("um", "µm", "\N{GREEK SMALL LETTER MU}m"):
        if text.endswith(unit):
            return "DIAMETER_UM", length(text.removesuffix(unit))
    return "DIAMETER", length(text)


def symmetries(text: str) -> tuple[str, str]:
    """Reads the name of a set of views as a setting of test-time augmentation."""
    if text not in SYMMETRIES:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(SYMMETRIES)}, received {text!r}")
    return "TEST_TIME_AUGMENTATION", text


def formats(text: str) -> tuple[str, ...]:
    """Reads names of formats, joined by commas."""
    names = tuple(name.strip() for name in text.split(","))
    unknown = [name for name in names if name not in CHOICES]
    if unknown:
        raise argparse.ArgumentTypeError(f"expected some of {', '.join(CHOICES)}, received {unknown[0]!r}")
    return names


def whole(least: int, text: str) -> int:
    """Reads a whole number from `least` on."""
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"expected a whole number from {least} on, received {text!r}")
    return int(text)


positive, number = partial(whole, 1), partial(whole, 0)


def number_or_all(text: str) -> int | str:
    """Reads a whole number above 0, or "all"."""
    return ALL if text == ALL else positive(text)


def length(text: str) -> float:
    """Reads a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, received {text!r}")
    return value


def number_between(least: float, text: str) -> float:
    """Reads a number from `least` to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not least <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from {least} to 1, received {text!r}")
    return value


# An IoU threshold above which no two predictions can match one nucleus, and a share.
detection_iou, part = partial(number_between, 0.5), partial(number_between, 0)


def folds(text: str) -> int | Path:
    """Reads a number of folds, or the file that holds them."""
    return int(text) if text.isdecimal() else Path(text)


def trained(text: str) -> str:
    """Reads `last` or the name of a file: weights trained on nuclei."""
    if text in (*PUBLISHED_WEIGHTS, RANDOM):
        raise argparse.ArgumentTypeError(f"{text!r} has not learned nuclei; give 'last' or the file of a trained model")
    return text


def learning(text: str) -> str:
    """Reads the name of a model that is trained."""
    if text in MODELS and text not in NETWORKS:
        raise argparse.ArgumentTypeError(f"{text} has no weights to train, as {' and '.join(NETWORKS)} have")
    return text
