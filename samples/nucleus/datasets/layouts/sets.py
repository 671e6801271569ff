"""Sets of images with one file of nuclei each, in the root of a data set or in the folders in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from nucleus.datasets.layouts.base import UNKNOWN_MODALITY, DatasetError, Layout, Part, Report, Sample, Truth
from nucleus.datasets.layouts.tables import CLASSES_FILE, read_modalities
from nucleus.images.reading import list_folders

IMAGE_FOLDER = "images"
# Function from a folder to the images of its set and their files of nuclei, both by the name of the image.
FindFiles = Callable[[Path], tuple[Mapping[str, Path], Mapping[str, Path]]]


def make_layout(
    name: str,
    summary: str,
    is_set: Callable[[Path], bool],
    find_files: FindFiles,
    make_truth: Callable[[Path], Truth],
    expected: str,
) -> Layout:
    """Returns a layout whose root is a set of images, or else holds folders that are.

    Args:
        name: Name of the layout.
        summary: Its files in a few words.
        is_set: Function from a folder to True if it is a set.
        find_files: Function from the folder of a set to its files.
        make_truth: Function from a file of nuclei to the truth of its image.
        expected: End of the error where there is no set.
    """

    def sets(root: Path) -> list[Path]:
        if not root.is_dir():
            return []
        return [root] if is_set(root) else [path for path in list_folders(root) if is_set(path)]

    def parts(root: Path) -> Mapping[str, Part]:
        found = sets(root)
        if not found:
            raise DatasetError(f"{root}: expected {expected}")
        return {"all" if folder == root else folder.name: partial(read, root, folder) for folder in found}

    def read(root: Path, folder: Path, report: Report) -> list[Sample]:
        images, files = find_files(folder)
        for image, path in files.items():
            if image not in images:
                report(DatasetError(f"{path}: there is no image {image} for this file"))
        modalities = read_modalities(root / CLASSES_FILE) | read_modalities(folder / CLASSES_FILE)
        collection = name if folder == root else folder.name
        return [
            Sample(
                image,
                path,
                make_truth(files[image]) if image in files else None,
                collection,
                modalities.get(image, UNKNOWN_MODALITY),
            )
            for image, path in images.items()
        ]

    return Layout(name, summary, lambda root: bool(sets(root)), parts)


def by_name(paths: Iterable[Path], name_of: Callable[[str], str] = str) -> dict[str, Path]:
    """Returns files by their names.

    Args:
        paths: The files.
        name_of: Function from a file's stem to its name; by default the stem itself.

    Raises:
        DatasetError: Two files have one name.
    """
    named: dict[str, Path] = {}
    for path in paths:
        first = named.setdefault(name_of(path.stem), path)
        if first is not path:
            raise DatasetError(f"{path}: goes by the name {name_of(path.stem)!r} as {first.name} does")
    return named
