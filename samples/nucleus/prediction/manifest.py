"""The manifest of a folder of results: what made it, which images it holds, and which files are the run's."""

from __future__ import annotations

import importlib.metadata
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from nucleus.datasets.provenance import MANIFEST_FILE, ProvenanceError, read_note, write_note
from nucleus.version import __version__

_FORMAT = 1

# States of a run: at work or killed; stopped before its last image, with the tables of what was done; finished; being
# removed for another one.
RUNNING, INTERRUPTED, COMPLETE, CLEARING = "running", "interrupted", "complete", "clearing"
# States of an image.
WAITING, DONE, FAILED = "waiting", "done", "failed"

_PACKAGES = ("numpy", "scipy", "opencv-python", "scikit-image")


@dataclass
class Manifest:
    """Record of a run.

    Attributes:
        facts: Everything that the results depend on besides the images: program, model, choice of planes, formats.
        state: "running", "interrupted", "complete" or "clearing".
        images: By image id: its file, its state ("waiting", "done", "failed"), and, of one that is done, the SHA-256 of
            the file, the number of nuclei and the result files; of one that failed, the error.
        files: Result files of all images together, such as tables.
        format: Version of the manifest.
    """

    facts: dict[str, Any]
    state: str = RUNNING
    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    format: int = _FORMAT

    def __post_init__(self) -> None:
        if self.format != _FORMAT:
            raise ValueError(f"format {self.format!r}; this version of the program reads {_FORMAT}")
        states = (RUNNING, INTERRUPTED, COMPLETE, CLEARING)
        if self.state not in states or not isinstance(self.facts, dict):
            raise ValueError(f"expected facts and a state among {', '.join(states)}")
        if not isinstance(self.images, dict) or not all(isinstance(image, dict) for image in self.images.values()):
            raise ValueError("expected images by their ids")
        lists = [self.files, *(image.get("files", []) for image in self.images.values())]
        if not all(isinstance(files, list) and all(map(is_inside, files)) for files in lists):
            raise ValueError("expected lists of files inside the folder")

    @property
    def every_file(self) -> list[str]:
        """All result files, relative to the folder."""
        return [*self.files, *(file for image in self.images.values() for file in image.get("files", []))]

    def write(self, folder: Path) -> None:
        """Writes the manifest into the folder of results, atomically.

        Args:
            folder: The folder.

        Raises:
            OSError: The file cannot be written.
        """
        write_note(folder / MANIFEST_FILE, asdict(self))


def read_manifest(folder: Path) -> Manifest | None:
    """Reads the manifest of a folder of results.

    Args:
        folder: The folder; may be missing.

    Returns:
        The manifest; None where there is none.

    Raises:
        ProvenanceError: There is one that cannot be read.
    """
    return read_note(folder / MANIFEST_FILE, Manifest)


def require_finished(folder: Path) -> None:
    """Refuses a folder of results whose run was killed, or still goes on.

    Args:
        folder: Folder that may have a manifest.

    Raises:
        ProvenanceError: The manifest says so, or cannot be read.
    """
    manifest = read_manifest(folder)
    if manifest is not None and manifest.state in (RUNNING, CLEARING):
        raise ProvenanceError(
            f"{folder}: results of a run that has not finished, so label images and tables may not belong together. "
            "Finish it with --resume where its command has that (nucleus detect), or make it anew with --overwrite."
        )


def program() -> dict[str, str]:
    """Returns the versions of the program and of the packages that its numbers depend on.

    A network's description has Keras and its backend, see `nucleus.models.network.NetworkModel.describe`.
    """
    return {"nucleus": __version__, **{package: _version(package) for package in _PACKAGES}}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def as_json(facts: dict[str, Any]) -> dict[str, Any]:
    """Returns facts as a JSON file gives them back: tuples as lists.

    Args:
        facts: JSON-compatible values.
    """
    return json.loads(json.dumps(facts))


def is_inside(file: Any) -> bool:
    """Returns whether a recorded name is that of a file inside a folder of results.

    Args:
        file: The name, relative to the folder, with "/" between folders.
    """
    if not isinstance(file, str) or not file or "\\" in file:
        return False
    path = PurePosixPath(file)
    return not path.is_absolute() and ".." not in path.parts and path.parts[:1] != ()
