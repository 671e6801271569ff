"""Records of a run over many images: the manifest of its folder, the nuclei of its finished images, its summary.

The manifest says what made the folder, which images it holds, and which files are the run's. The nuclei are kept beside
it, so that an interrupted run can be resumed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from nucleus.datasets.provenance import MANIFEST_FILE, ProvenanceError, read_note, write_note
from nucleus.models.base import Prediction
from nucleus.version import __version__, package_version
from trainkit.files import atomic_path, file_digest

_FORMAT = 1

# States of a run: at work or killed; stopped before its last image, with the tables of what was done; finished; being
# removed for another one.
RUNNING, INTERRUPTED, COMPLETE, CLEARING = "running", "interrupted", "complete", "clearing"
# States of an image.
WAITING, DONE, FAILED = "waiting", "done", "failed"

SUFFIX = ".npz"

_PACKAGES = ("numpy", "scipy", "opencv-python", "scikit-image")


@dataclass
class DetectionRun:
    """Summary of a run over many images.

    Attributes:
        output: Folder of the results.
        images: Number of images with results.
        nuclei: Number of nuclei found in them.
        resumed: Number of those images that an earlier run had finished.
        seconds: Time from the first image to the last file.
        failures: One message for each input that could not be used, naming it.
    """

    output: Path
    images: int = 0
    nuclei: int = 0
    resumed: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = f"{_count(self.images, 'image', 'images')}, {_count(self.nuclei, 'nucleus', 'nuclei')}"
        resumed = f" ({self.resumed} done before)" if self.resumed else ""
        failed = f", {len(self.failures)} failed" if self.failures else ""
        return f"{counts}{resumed}, {self.seconds:.1f} s{failed}: {self.output}"


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


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
    return {"nucleus": __version__, **{package: package_version(package) or "unknown" for package in _PACKAGES}}


def is_inside(file: Any) -> bool:
    """Returns whether a recorded name is that of a file inside a folder of results.

    Args:
        file: The name, relative to the folder, with "/" between folders.
    """
    # Elsewhere than on Windows a backslash is a letter, which the name of an image may have.
    if not isinstance(file, str) or not file or ("\\" in file and os.name == "nt"):
        return False
    path = PurePosixPath(file)
    return not path.is_absolute() and ".." not in path.parts and path.parts[:1] != ()


@dataclass(frozen=True)
class Stored:
    """Record of a finished image.

    Attributes:
        about: File, content's SHA-256, size and time of change, and number of nuclei of the image.
        files: Result files of the image, relative to the folder of results.
        prediction: Nuclei of the image; None where they are not kept.
    """

    about: Mapping[str, Any]
    files: Sequence[str]
    prediction: Prediction | None


def write_stored(path: Path, stored: Stored) -> None:
    """Writes the record of a finished image, atomically.

    Args:
        path: File to write, ending in `.npz`.
        stored: The record.

    Raises:
        OSError: The file cannot be written.
    """
    found, arrays, scale = stored.prediction, {}, None
    if found is not None:
        arrays, scale = {"labels": found.labels, "scores": found.scores}, [found.scale, found.diameter]
    known = json.dumps({"about": dict(stored.about), "files": list(stored.files), "scale": scale})
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, about=np.frombuffer(known.encode(), np.uint8), **arrays)


def read_stored(path: Path, nuclei: bool = True) -> Stored | None:
    """Reads what is known of a finished image.

    Args:
        path: File that `write_stored` wrote.
        nuclei: False to leave out the prediction, which takes the most time.

    Returns:
        What is known; None where the file is missing or damaged, so that the image counts as not finished.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            known = json.loads(arrays["about"].tobytes())
            about, files = dict(known["about"]), list(known["files"])
            prediction = None
            if nuclei and "labels" in arrays:
                factor, diameter = known["scale"]
                prediction = Prediction(arrays["labels"], arrays["scores"])
                prediction = prediction.at_scale(float(factor), None if diameter is None else float(diameter))
    except Exception:  # A damaged archive can fail with any error.
        return None
    described = isinstance(about.get("sha256"), str) and isinstance(about.get("nuclei"), int)
    if not described or not all(map(is_inside, files)) or (prediction is not None and not _fits(prediction)):
        return None
    return Stored(about, files, prediction)


def _fits(prediction: Prediction) -> bool:
    labels, scores = prediction
    types = labels.dtype == np.int32 and labels.ndim == 2 and scores.dtype == np.float32 and scores.ndim == 1
    return types and labels.min(initial=0) == 0 and labels.max(initial=0) == len(scores)


def identify(file: str | os.PathLike) -> dict[str, Any]:
    """Returns the name, size, time of change and SHA-256 of an image's file, by which it is recognised later.

    Args:
        file: The file.

    Raises:
        OSError: It cannot be read.
    """
    file = Path(file)
    status = file.stat()
    return {"file": str(file), "size": status.st_size, "modified": status.st_mtime_ns, "sha256": content_digest(file)}


def content_digest(path: Path) -> str:
    """Returns the SHA-256 of an image's file, or of the names and contents of a folder that is an image.

    Args:
        path: The file or folder.

    Raises:
        OSError: It cannot be read.
    """
    if not path.is_dir():
        return file_digest(path, "sha256")
    files = sorted(file for file in path.rglob("*") if file.is_file())
    lines = "".join(f"{file.relative_to(path).as_posix()} {file_digest(file, 'sha256')}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def require_unchanged(file: Path, about: Mapping[str, Any], folder: Path) -> None:
    """Raises ProvenanceError unless an image is the one that a run has finished.

    Args:
        file: The image.
        about: Result of `identify` for the image of the run.
        folder: Folder of the run's results, for the error.
    """
    try:
        status = file.stat()
        same = (about["size"], about["modified"]) == (status.st_size, status.st_mtime_ns)
        same = same or about["sha256"] == content_digest(file)
    except (OSError, KeyError) as error:
        raise ProvenanceError(f"{file}: was in the run of {folder}, and cannot be compared ({error})") from error
    if not same:
        raise ProvenanceError(
            f"{file}: has changed since the run of {folder}. Begin anew with --overwrite, or choose another output "
            "folder."
        )
