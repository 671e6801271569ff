"""The files of the GlaS challenge on gland segmentation (Sirinukunwattana et al. 2017).

<root>/train_1.bmp            the image; the test parts are testA_1.bmp..., testB_1.bmp...
<root>/train_1_anno.bmp       the label image
<root>/Grade.csv              optional: name,patient ID,grade (GlaS),...

"testA" and "testB" are parts, "all" is everything. A fifth of the challenge's training part is "val" and the rest is
"train" (`nucleus.datasets.layouts.subsets`); "train+val" is the challenge's training part.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from nucleus.datasets.layouts.base import DatasetError, Layout, Part, Report, Sample
from nucleus.datasets.layouts.label_files import LabelFile
from nucleus.datasets.layouts.tables import read_values
from nucleus.images.reading import list_images

GRADES_FILE = "Grade.csv"
STAIN = "h&e"
_PARTS = ("train", "testA", "testB")
_ANNOTATION = "_anno"
_NAME = re.compile(rf"(?P<part>{'|'.join(_PARTS)})_(?P<number>\d+)(?P<annotation>{_ANNOTATION})?")


def read_grades(path: Path) -> dict[str, str]:
    """Reads `Grade.csv`.

    Args:
        path: A CSV file with the columns name and grade (GlaS), which may be missing.

    Returns:
        Name of the image, such as "testA_1" -> "benign" or "malignant"; empty without the file.

    Raises:
        DatasetError: The file cannot be read as CSV, a column is missing, or two rows of one image differ.
    """
    if not path.is_file():
        return {}
    return {name: grade for name, (grade,) in read_values(path, "name", ("grade (GlaS)",)).items()}


def challenge_part(annotation: Path | None) -> str | None:
    """Returns the test part of the challenge that an image belongs to, by the name of its label file.

    Args:
        annotation: Path of the label file, `masks` of `NucleusDataset.image_info`.

    Returns:
        "A" for "testA_1_anno.bmp", "B" for "testB_1_anno.bmp", and None for any other file. Converted data sets have no
        test parts, since their images may differ from the challenge's in size.
    """
    match = _NAME.fullmatch(annotation.stem) if annotation else None
    is_test = match and match["annotation"] and match["part"].startswith("test")
    return match["part"].removeprefix("test") if is_test else None


def _recognises(root: Path) -> bool:
    if not root.is_dir():
        return False
    return any((match := _NAME.fullmatch(path.stem)) and match["annotation"] for path in list_images(root))


def _parts(root: Path) -> Mapping[str, Part]:
    files = {path.stem: path for path in list_images(root) if _NAME.fullmatch(path.stem)}
    found = {_NAME.fullmatch(name)["part"] for name in files}
    return {part: partial(_read, root, files, part) for part in _PARTS if part in found}


def _read(root: Path, files: Mapping[str, Path], part: str, report: Report) -> list[Sample]:
    grades = read_grades(root / GRADES_FILE)
    matches = sorted(
        (match for match in map(_NAME.fullmatch, files) if match["part"] == part),
        key=lambda match: int(match["number"]),
    )
    samples = []
    for match in matches:
        name = match[0]
        if match["annotation"]:
            image = name.removesuffix(_ANNOTATION)
            if image not in files:
                report(DatasetError(f"{files[name]}: there is no image {image} that it annotates"))
            continue
        annotation = files.get(name + _ANNOTATION)
        modality = f"{STAIN}-{grades[name]}" if name in grades else STAIN
        samples.append(Sample(name, files[name], LabelFile(annotation) if annotation else None, "glas", modality))
    return samples


LAYOUT = Layout("glas", "train_1.bmp with train_1_anno.bmp, testA_..., testB_..., Grade.csv", _recognises, _parts)
