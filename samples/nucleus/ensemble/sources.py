"""Sources of a combined model's members, as its file names them: files relative to it, or names of models."""

from __future__ import annotations

import os
from pathlib import Path

# Before the source of a member that is a name, not a file.
NAMED = "model:"


def find_source(text: str) -> str | Path:
    """Returns the source of a member: the path of a file, or `NAMED` and the name of a model.

    Args:
        text: A file, or a name that `nucleus.load_model` knows.
    """
    return Path(text) if os.path.isfile(text) else f"{NAMED}{text}"


def relative(source: str | os.PathLike, folder: Path) -> str:
    """Returns a member's source as a file in a folder names it.

    Args:
        source: The path of a file, or `NAMED` and a name.
        folder: The folder.
    """
    text = os.fspath(source)
    return text if text.startswith(NAMED) else Path(os.path.relpath(Path(text).resolve(), folder)).as_posix()


def absolute(text: str, folder: Path) -> str | Path:
    """Returns the source of what `relative` returned for the same folder."""
    return text if text.startswith(NAMED) else folder / text


def loadable(source: str | os.PathLike) -> str | Path:
    """Returns a member's source as `nucleus.load_model` takes it.

    Args:
        source: The path of a file, or `NAMED` and a name.
    """
    text = os.fspath(source)
    return text.removeprefix(NAMED) if text.startswith(NAMED) else Path(text)
