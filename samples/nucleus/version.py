"""Version of the installed package, or of a clone that is not installed."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

_DISTRIBUTION = "keras-nucleus"


def package_version(name: str) -> str | None:
    """Returns the version of an installed package; None for one that is not installed.

    Args:
        name: Name of the package, as pip knows it.
    """
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def read_version() -> str:
    """Reads the version from the installed distribution, or from `pyproject.toml` in a clone that is not installed."""
    installed = package_version(_DISTRIBUTION)
    if installed is not None:
        return installed
    project = Path(__file__).resolve().parents[2] / "pyproject.toml"
    return re.search(r'^version = "(.+)"$', project.read_text(encoding="utf-8"), re.MULTILINE)[1]


__version__ = read_version()
