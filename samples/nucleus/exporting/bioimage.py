"""Packages of the BioImage Model Zoo: an ONNX file, its description, and an image with the expected answer.

The description follows the specification of models, version 0.5 (bioimage-io/spec-bioimage-io).
"""

from __future__ import annotations

import re
import tempfile
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from nucleus.datasets.dataset import shipped_data
from nucleus.images.reading import read_image
from nucleus.models.onnx import note_recipe
from nucleus.models.recipe import Recipe
from nucleus.models.unet import UNetModel
from nucleus.version import __version__
from trainkit.files import atomic_path, file_digest
from trainkit.onnx_files import require_packages
from unet.config import UNetConfig

_FORMAT = "0.5.4"
_WEIGHTS, _DESCRIPTION, _DOCUMENTATION = "weights.onnx", "rdf.yaml", "README.md"
# Least side in pixels of the image with the expected answer.
_SIDE = 256
_CITATION = {
    "text": "Caicedo et al., Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl, 2019",
    "doi": "10.1038/s41592-019-0612-7",
}
_README = """# {name}

Probabilities of {channels} for every pixel of a microscopy image, by a U-Net trained
with keras-nucleus {version}.

The input is RGB in 0 to 255. Its sides are multiples of {stride} pixels: mirror the image at its edges until they are,
and cut the answer back.{preparation} Nuclei follow from the probabilities by the post-processing that
the settings in `rdf.yaml` (`config`, `keras_nucleus`) describe; `nucleus detect --weights={weights}` does it all.

## Validation

`nucleus evaluate --weights={weights}` scores the file on images with masks. Compare with the scores of the weights
that it was exported from.
"""


def write_package(model: UNetModel, recipe: Recipe, path: Path) -> None:
    """Writes a package of the BioImage Model Zoo.

    Args:
        model: The U-Net.
        recipe: Its recipe, for the description and the ONNX file.
        path: File to write, ending in `.zip`.

    Raises:
        ValueError: The name ends otherwise, a package of the extra "export" is missing, or Keras runs on another
            backend than TensorFlow.
        OSError: The file cannot be written.
    """
    if path.suffix != ".zip":
        raise ValueError(f"{path}: a package of the BioImage Model Zoo ends in .zip.")
    require_packages(["onnx", "tf2onnx", "yaml"], "export", "Export for the BioImage Model Zoo")
    import onnx
    import yaml

    from unet.exporting import export_onnx

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        export_onnx(model.network, folder / _WEIGHTS, note_recipe(recipe))
        opset = next(entry.version for entry in onnx.load(folder / _WEIGHTS).opset_import if entry.domain == "")
        image = _test_image(model)
        np.save(folder / "test_image.npy", image)
        np.save(folder / "test_probabilities.npy", np.stack(model.network.predict(list(image))))
        title = re.sub(r"[^\w+\- ()]", " ", f"keras-nucleus U-Net {recipe.preset}")[:64]
        (folder / _DOCUMENTATION).write_text(_documentation(title, model.config), encoding="utf-8")
        described = _describe(title, model.config, recipe, opset, folder)
        text = yaml.safe_dump(described, sort_keys=False, allow_unicode=True)
        (folder / _DESCRIPTION).write_text(text, encoding="utf-8")
        with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(folder.iterdir()):
                archive.write(file, file.name)


def _test_image(model: UNetModel) -> np.ndarray:
    """Returns the middle of a shipped image, preprocessed: float32 `[1, side, side, 3]`, side a multiple of the stride.

    An image that is too small is mirrored.
    """
    path = min(shipped_data().glob("*/*/images/*.png"))
    image = model.prepare(read_image(path))
    side = max(_SIDE, model.config.stride)
    missing = [max(0, side - length) for length in image.shape[:2]]
    image = np.pad(image, [*((0, length) for length in missing), (0, 0)], mode="symmetric")
    top, left = ((length - side) // 2 for length in image.shape[:2])
    return image[None, top : top + side, left : left + side].astype(np.float32)


def _documentation(title: str, config: UNetConfig) -> str:
    steps = [name for name in ("STRETCH", "CLAHE") if getattr(config, name)]
    return _README.format(
        name=title,
        channels=", ".join(config.channels),
        version=__version__,
        stride=config.stride,
        preparation=f" Preprocess it as in training: {', '.join(steps)}." if steps else "",
        weights=_WEIGHTS,
    )


def _describe(title: str, config: UNetConfig, recipe: Recipe, opset: int, folder: Path) -> dict[str, Any]:
    """Returns the content of rdf.yaml for the files in a folder."""
    batch = {"type": "batch"}
    sizes = {"min": config.stride, "step": config.stride}
    rows = [{"type": "space", "id": name, "size": sizes} for name in "yx"]
    same = [{"type": "space", "id": name, "size": {"tensor_id": "image", "axis_id": name}} for name in "yx"]

    def file(name: str) -> dict[str, str]:
        return {"source": name, "sha256": file_digest(folder / name, "sha256")}

    def channels(names: tuple[str, ...]) -> dict[str, Any]:
        return {"type": "channel", "channel_names": [name.replace("-", "_") for name in names]}

    return {
        "format_version": _FORMAT,
        "type": "model",
        "name": title,
        "description": f"U-Net that finds nuclei: probabilities of {', '.join(config.channels)} for every pixel.",
        "documentation": _DOCUMENTATION,
        "cite": [_CITATION],
        "tags": ["nucleus", "segmentation", "unet", "2d", "fluorescence", "histology"],
        "inputs": [
            {
                "id": "image",
                "description": "RGB in 0 to 255, preprocessed as the documentation says",
                "axes": [batch, *rows, channels(("red", "green", "blue"))],
                "data": {"type": "float32", "range": [0, 255]},
                "test_tensor": file("test_image.npy"),
            }
        ],
        "outputs": [
            {
                "id": "probabilities",
                "description": "probability of each channel",
                "axes": [batch, *same, channels(config.channels)],
                "data": {"type": "float32", "range": [0, 1]},
                "test_tensor": file("test_probabilities.npy"),
            }
        ],
        "weights": {"onnx": {**file(_WEIGHTS), "opset_version": opset}},
        "config": {"keras_nucleus": {"version": __version__, "recipe": asdict(recipe)}},
    }
