"""`Preset`: named settings with their source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Preset:
    """Settings that differ from a configuration's defaults.

    Attributes:
        summary: One line for the command line's help.
        source: Publication that the settings come from.
        settings: Values by the name of the configuration's attribute.
    """

    summary: str
    source: str
    settings: Mapping[str, Any] = field(default_factory=dict)
