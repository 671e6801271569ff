"""The folder of results: files of one run, whatever happens to it, and a record from which it is resumed.

Writers write into a hidden folder beside the results. When an image is finished, its files are recorded, then moved
into place; when the last one is, the tables are. So every file in place is recorded, and a later run can remove or
finish what a killed one left. The record is `manifest.json`; `.nucleus/images/<id>.npz` holds each image's nuclei and
files at once, as the manifest, which names all images, is not written anew for each of many thousands.
"""

from __future__ import annotations

import glob
import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from nucleus.datasets.provenance import MANIFEST_FILE, ProvenanceError, as_json, require_same
from nucleus.models.base import Prediction
from nucleus.prediction.manifest import (
    CLEARING,
    COMPLETE,
    DONE,
    FAILED,
    INTERRUPTED,
    SUFFIX,
    WAITING,
    Manifest,
    Stored,
    read_manifest,
    read_stored,
    require_unchanged,
    write_stored,
)
from trainkit.files import remove_leftovers, require_writable
from trainkit.locks import LockedError, exclusive

STATE_FOLDER = ".nucleus"
# What earlier versions, which kept no manifest, wrote.
_UNRECORDED = (
    *("labels", "stacks", "overlays", "rois", "geojson", "nuclei.csv", "images.csv", "submission.csv"),
    *("measurements.xlsx", "coco_instances.json", "coco_results.json"),
)
# Share of the time that may go into writing the manifest.
_MANIFEST_SHARE = 0.02


class Results:
    """A folder of results that one run writes, as a context manager that holds it for this process.

    The folder is created on entering; without a finished image it is removed again, and older results stay.

    Args:
        folder: The folder.
        overwrite: True to replace the results of another run, when the first image is finished.
        resume: True to continue the run that is in the folder, if there is one.
        keep: False to keep no predictions for a later resumption: the run cannot be resumed.
        reads: Files and folders besides the images that the run reads, such as label images.

    Raises:
        ValueError: Both overwrite and resume.
        ProvenanceError: On entering: the folder holds results, another process writes into it, its record cannot be
            read, or it is to be replaced and something that the run reads is in it.
        OSError: On entering: the folder cannot be written.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        overwrite: bool = False,
        resume: bool = False,
        keep: bool = True,
        reads: Iterable[str | os.PathLike] = (),
    ) -> None:
        if overwrite and resume:
            raise ValueError("Results are either overwritten or resumed. Received: both.")
        self.folder = Path(folder)
        self.staging = self.folder / STATE_FOLDER / "new"
        self._images = self.folder / STATE_FOLDER / "images"
        self._overwrite, self._resume, self._keep = overwrite, resume, keep
        self._reads = tuple(map(Path, reads))
        self._closing = ExitStack()
        self._created: list[Path] = []
        self._old: Manifest | None = None
        self._manifest = Manifest({})
        self._own: set[str] = set()
        # Images of the run that is resumed whose rows are not in this run's tables yet.
        self._missing: set[str] = set()
        self._begun = False
        self._due = 0.0

    def __enter__(self) -> Results:
        self._check()
        require_writable(self.folder)
        missing = [path for path in (self.folder, *self.folder.parents) if not path.exists()]
        try:
            self._images.mkdir(parents=True, exist_ok=True)
            self._created = missing
            self._closing.enter_context(exclusive(self.folder / STATE_FOLDER / "lock"))
        except LockedError as error:
            raise ProvenanceError(f"{self.folder}: {error.holder} is writing into this folder") from None
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.folder)) from error
        try:
            # Whoever held the lock until now may have finished.
            self._old = self._check()
            self.discard()
            remove_leftovers(self.folder, MANIFEST_FILE)
            remove_leftovers(self._images, f"*{SUFFIX}")
        except BaseException:
            self._closing.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.discard()
            if not self._begun and self._old is None:
                shutil.rmtree(self.folder / STATE_FOLDER)
                for path in self._created:
                    path.rmdir()
        except OSError:
            # Somebody put something there meanwhile; what stays is empty folders.
            pass
        finally:
            self._closing.close()

    def start(self, facts: Mapping[str, Any], infos: Sequence[Mapping[str, Any]]) -> None:
        """Compares a run that is resumed with what is given now.

        Args:
            facts: Everything that the results depend on besides the images; see `Manifest.facts`.
            infos: Entries of `NucleusDataset.image_info`.

        Raises:
            ProvenanceError: The folder's run had other facts, or an image that it finished is missing or has changed;
                or an image to read is one of the files that are to be replaced.
        """
        self._manifest = Manifest(as_json(dict(facts)))
        for info in infos:
            self._manifest.images[info["id"]] = {"file": str(info["path"]), "state": WAITING}
        if self._old is None:
            return
        known, self._own = self._recorded(self._old)
        if not self._resume:
            replaced = {(self.folder / file).resolve() for file in self._own}
            read = next((info["path"] for info in infos if Path(info["path"]).resolve() in replaced), None)
            if read is not None:
                raise ProvenanceError(f"{read}: is an image to read, and would be removed. Choose another folder.")
            return
        require_same(self.folder / MANIFEST_FILE, "settings", self._old.facts, self._manifest.facts)
        for image_id, stored in known.items():
            if stored is not None:
                if image_id not in self._manifest.images:
                    raise ProvenanceError(
                        f"{self.folder}: its run has finished the image {image_id} ({stored.about.get('file')}), which "
                        "is not given now. Give all of the run's images, or choose another output folder."
                    )
                require_unchanged(Path(self._manifest.images[image_id]["file"]), stored.about, self.folder)
                self._note_done(image_id, stored.about, stored.files)
                self._missing.add(image_id)

    def is_done(self, image_id: str) -> bool:
        """Returns whether an image was finished, in this run or in the one that it resumes."""
        return self._manifest.images[image_id]["state"] == DONE

    def keep(self, image_id: str) -> dict[str, Any]:
        """Leaves the files of an image as the resumed run wrote them.

        Args:
            image_id: Name of an image that was finished.

        Returns:
            What was recorded of it; see `commit`.
        """
        self._begin()
        self._missing.discard(image_id)
        return dict(read_stored(self._path(image_id), nuclei=False).about)

    def tiles_folder(self, image_id: str) -> Path:
        """Returns the folder that keeps the nuclei of a large image's tiles until the image is finished."""
        return self.folder / STATE_FOLDER / "tiles" / image_id

    def prediction(self, image_id: str) -> Prediction | None:
        """Returns the nuclei of an image that the resumed run finished; None where they are not known.

        Args:
            image_id: Name of the image.
        """
        if not self._resume or not self.is_done(image_id):
            return None
        stored = read_stored(self._path(image_id))
        return None if stored is None else stored.prediction

    def commit(self, image_id: str, prediction: Prediction | None, about: Mapping[str, Any]) -> None:
        """Records an image as finished, and moves its staged files into place.

        Args:
            image_id: Name of the image.
            prediction: Nuclei of the image.
            about: Result of `identify` for its file, with the number of its `nuclei`; not used for an image that is
                done.

        Raises:
            ProvenanceError: A file of another origin is in the way.
            OSError: A file cannot be written or moved.
        """
        self._begin()
        files = self._staged()
        image = self._manifest.images[image_id]
        if not self.is_done(image_id) or image["files"] != files:
            write_stored(self._path(image_id), Stored(about, files, prediction if self._keep else None))
            self._note_done(image_id, about, files)
        self._place(files)
        self._missing.discard(image_id)
        self._write(force=False)

    def fail(self, image_id: str, error: str) -> None:
        """Records that an image has no nuclei, and drops its staged files.

        Args:
            image_id: Name of the image.
            error: The reason.
        """
        self.discard()
        image = self._manifest.images[image_id]
        if image["state"] == DONE:
            # What was finished before, and cannot be any more, would be missing in the tables.
            self._begin()
            for path in (*(self.folder / file for file in image["files"]), self._path(image_id)):
                path.unlink(missing_ok=True)
            self._missing.discard(image_id)
        self._manifest.images[image_id] = {"file": image["file"], "state": FAILED, "error": self.named(error)}

    def finish(self, complete: bool) -> None:
        """Moves the staged tables into place and records the run as finished.

        Where a resumed run is stopped before it has come to all images that were finished before, the tables would lack
        them: there are none then, as after a kill, until it is resumed again.

        Args:
            complete: False for a run that was stopped before its last image.

        Raises:
            ProvenanceError: A file of another origin is in the way.
            OSError: A file cannot be written or moved.
        """
        if not self._begun:
            return
        if self._missing:
            self._write()
            return
        self._manifest.files = self._staged()
        self._write()
        self._place(self._manifest.files)
        self._manifest.state = COMPLETE if complete else INTERRUPTED
        self._write()

    def discard(self) -> None:
        """Removes the staged files."""
        if self.staging.exists():
            shutil.rmtree(self.staging)

    def named(self, text: str) -> str:
        """Returns a message with the names that staged files will have in place.

        Args:
            text: A message that may name staged files.
        """
        return text.replace(str(self.staging), str(self.folder))

    def _check(self) -> Manifest | None:
        """Returns the folder's manifest; refuses results that this run must not touch."""
        own = self.folder.resolve()
        inside = (path for path in self._reads if path.exists() and path.resolve().is_relative_to(own))
        read = next(inside, None)
        if self._overwrite and read is not None:
            raise ProvenanceError(
                f"{read}: is to be read, and would be removed. Choose another folder for the results."
            )
        old = read_manifest(self.folder)
        if old is None:
            found = next((name for name in _UNRECORDED if (self.folder / name).exists()), None)
            if found is not None:
                raise ProvenanceError(
                    f"{self.folder}: has {found}, but no {MANIFEST_FILE} that names its run. Choose "
                    "another folder, or remove this one."
                )
        elif self._resume and old.state == CLEARING:
            raise ProvenanceError(f"{self.folder}: its results were being removed. Begin anew with --overwrite.")
        elif not self._resume and not self._overwrite:
            ways = "Continue it with --resume, replace it" if self._keep else "Replace it"
            raise ProvenanceError(
                f"{self.folder}: holds the results of another run. {ways} with --overwrite, or choose another folder."
            )
        return old

    def _begin(self) -> None:
        """Makes the folder that of this run, when its first image is finished."""
        if self._begun:
            return
        if self._old is not None and not self._resume:
            self._clear(self._old)
        elif self._old is not None:
            self._manifest.files = self._old.files
        self._write()
        # Tables of an interrupted run are those of fewer images.
        for file in self._manifest.files:
            (self.folder / file).unlink(missing_ok=True)
        self._manifest.files = []
        self._begun = True

    def _clear(self, old: Manifest) -> None:
        """Removes the results of another run; killed meanwhile, what is left still belongs to that run."""
        old.state = CLEARING
        old.write(self.folder)
        known, files = self._recorded(old)
        for file in files:
            path = self.folder / file
            if path.parent.resolve().is_relative_to(self.folder.resolve()):
                path.unlink(missing_ok=True)
        for folder in sorted(
            {self.folder / parent for file in files for parent in Path(file).parents[:-1]}, reverse=True
        ):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        for image_id in known:
            self._path(image_id).unlink(missing_ok=True)
        self._own = set()

    def _recorded(self, old: Manifest) -> tuple[dict[str, Stored | None], set[str]]:
        """Returns the records of the images that a run finished, by their ids, and the names of all its files."""
        known = {
            path.name.removesuffix(SUFFIX): read_stored(path, nuclei=False)
            for path in sorted(self._images.glob(f"*{SUFFIX}"))
        }
        files = {*old.every_file, *(file for stored in known.values() if stored is not None for file in stored.files)}
        for image_id, stored in known.items():
            if stored is None:
                # Its record is damaged, and the manifest may be older.
                for folder in {Path(file).parent for file in files} - {Path()}:
                    found = (self.folder / folder).glob(f"{glob.escape(image_id)}.*")
                    files.update(path.relative_to(self.folder).as_posix() for path in found)
        return known, files

    def _staged(self) -> list[str]:
        """Returns the staged files, relative to the folder, and makes sure that they are in nobody's way."""
        files = sorted(path.relative_to(self.staging).as_posix() for path in self.staging.rglob("*") if path.is_file())
        for file in files:
            if file not in self._own and (self.folder / file).exists():
                raise ProvenanceError(f"{self.folder / file}: is there already, and from no run that is recorded here")
        return files

    def _place(self, files: Sequence[str]) -> None:
        for file in files:
            (self.folder / file).parent.mkdir(parents=True, exist_ok=True)
            os.replace(self.staging / file, self.folder / file)
        self._own.update(files)

    def _path(self, image_id: str) -> Path:
        return self._images / f"{image_id}{SUFFIX}"

    def _note_done(self, image_id: str, about: Mapping[str, Any], files: Sequence[str]) -> None:
        known = {"file": self._manifest.images[image_id]["file"], "state": DONE}
        self._manifest.images[image_id] = {
            **known,
            "sha256": about["sha256"],
            "nuclei": about["nuclei"],
            "files": list(files),
        }
        self._own.update(files)

    def _write(self, force: bool = True) -> None:
        """Writes the manifest; where that is not forced, only once its writing takes a small share of the time."""
        start = time.monotonic()
        if not force and start < self._due:
            return
        self._manifest.write(self.folder)
        end = time.monotonic()
        self._due = end + (end - start) / _MANIFEST_SHARE
