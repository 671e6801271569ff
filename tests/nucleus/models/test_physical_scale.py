"""A diameter in µm sets the scale of each image by the size of its pixels, which is never guessed."""

import argparse

import numpy as np
import pandas as pd
import pytest
import tifffile

from nucleus import cli
from nucleus.commands import values
from nucleus.models.loading import load_model
from nucleus.models.scale import FixedScale, PhysicalScale
from trainkit.settings import SettingsError

KNOWN = {"KNOWN_DIAMETERS": (10, 20, 40)}


def squares(pixel_size, path):
    """Writes an image of squares of 8 µm, as far as the size of its pixels lets it."""
    image, side = np.zeros((160, 160), np.uint8), round(8 / pixel_size)
    for y, x in np.ndindex(160 // (2 * side), 160 // (2 * side)):
        image[2 * y * side + 2 :, 2 * x * side + 2 :][:side, :side] = 200
    resolution = (1e4 / pixel_size, 1e4 / pixel_size)
    tifffile.imwrite(path, image, resolution=resolution, resolutionunit="CENTIMETER")
    return image


def test_each_image_of_a_folder_has_the_factor_of_its_pixels(tmp_path, capsys):
    squares(0.4, tmp_path / "fine.tif")
    squares(0.8, tmp_path / "coarse.tif")
    tifffile.imwrite(tmp_path / "unknown.tif", squares(0.4, tmp_path / "fine2.tif"))
    command = ["detect", "--preset=otsu", "--set=KNOWN_DIAMETERS=(10,20,40)", "--diameter=8um", str(tmp_path)]
    assert cli.main([*command, f"--output={tmp_path / 'out'}"]) == 1
    error = capsys.readouterr().err
    assert "unknown.tif: A diameter in µm (8) needs the size of a pixel" in error and "--pixel-size" in error
    images = pd.read_csv(tmp_path / "out" / "images.csv").set_index("ImageId")
    assert images["scale"].to_dict() == {"coarse": 2, "fine": 1, "fine2": 1}
    assert images["nuclei"].to_dict() == {"coarse": 64, "fine": 16, "fine2": 16}
    assert cli.main([*command, f"--output={tmp_path / 'given'}", "--pixel-size=0.8"]) == 0
    assert set(pd.read_csv(tmp_path / "given" / "images.csv")["scale"]) == {2}


def test_an_array_needs_the_size_of_its_pixels(tmp_path):
    image = squares(0.8, tmp_path / "a.tif")
    model = load_model("classical/otsu", settings={"DIAMETER_UM": 8, **KNOWN})
    assert type(model) is PhysicalScale and model.predict(image, pixel_size=0.8)[0].scale == 2
    with pytest.raises(ValueError, match=r"needs the size of a pixel.*pixel_size="):
        model.predict(image)
    plain = load_model("classical/otsu", settings={"DIAMETER": 10, **KNOWN})
    assert type(plain) is FixedScale and plain.predict(image, pixel_size=0.1)[0].scale == 2


def test_a_diameter_has_one_unit():
    assert values.diameter("60") == ("DIAMETER", 60)
    assert values.diameter("8um") == values.diameter("8µm") == ("DIAMETER_UM", 8)
    with pytest.raises(argparse.ArgumentTypeError, match="above 0"):
        values.diameter("8mm")
    with pytest.raises(SettingsError, match="DIAMETER and DIAMETER_UM exclude each other"):
        load_model("classical/otsu", settings={"DIAMETER": 10, "DIAMETER_UM": 8, **KNOWN})
    with pytest.raises(ValueError, match="does not say which nuclei it knows"):
        load_model("classical/otsu", settings={"DIAMETER_UM": 8})
