"""Named settings of a model, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Preset:
    """Settings that differ from a configuration's defaults.

    Attributes:
        summary: One line for the command line's help.
        source: Publication or project that the settings come from.
        settings: Attribute name -> value, for training; most hold in inference too.
        inference: Attribute name -> value, on top of these in inference.
    """

    summary: str
    source: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    inference: Mapping[str, Any] = field(default_factory=dict)
