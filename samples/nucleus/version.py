"""Version of the installed package, or of a clone that is not installed."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

_DISTRIBUTION = "keras-nucleus"


def read_version() -> str:
    """Reads the version from the installed distribution, or from `pyproject.toml` in a clone that is not installed."""
    try:
        return metadata.version(_DISTRIBUTION)
    except metadata.PackageNotFoundError:
        project = Path(__file__).resolve().parents[2] / "pyproject.toml"
        return re.search(r'^version = "(.+)"$', project.read_text(encoding="utf-8"), re.MULTILINE)[1]


__version__ = read_version()
