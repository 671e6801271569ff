"""Files of the scores of several models in one folder."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from nucleus.evaluation.evaluation import Evaluation


def save_evaluations(evaluations: Sequence[Evaluation], folder: str | os.PathLike) -> None:
    """Writes the scores of one model into a folder, or those of several each into a folder of its own in it.

    Args:
        evaluations: Evaluations with different names.
        folder: Destination; created if missing.

    Raises:
        OSError: A file cannot be written.
    """
    for evaluation, name in zip(evaluations, folder_names([each.name for each in evaluations]), strict=True):
        evaluation.save(Path(folder, name) if len(evaluations) > 1 else folder)


def folder_names(names: Sequence[str]) -> list[str]:
    """Returns a folder's name for each model, none twice: letters, digits, "_", "-" and "." of the model's name.

    Args:
        names: Names of the models.

    Examples:
        >>> folder_names(["U-Net", "a/b", "a b"])
        ['U-Net', 'a_b', 'a_b~2']
    """
    taken: list[str] = []
    for name in names:
        plain = re.sub(r"[^\w.-]+", "_", name)[:80].strip("._") or "model"
        same = sum(other.lower() == plain.lower() or other.lower().startswith(f"{plain.lower()}~") for other in taken)
        taken.append(f"{plain}~{same + 1}" if same else plain)
    return taken
