"""Images read by regions have the nuclei that they have in memory; a run that was killed goes on with missing tiles."""

import numpy as np
import pandas as pd
import pytest
import tifffile

from nucleus import cli
from nucleus.datasets.dataset import shipped_data
from nucleus.images.lazy import open_lazy
from nucleus.images.reading import read_image, read_labels, read_raw
from nucleus.measurement import measure
from nucleus.models import large
from nucleus.models.large import predict_large
from nucleus.models.loading import load_model
from nucleus.models.scale import at_factor
from nucleus.models.tiles import Tiles
from nucleus.prediction import large as blocks
from nucleus.prediction.large import measure_large


def field(name):
    (path,) = shipped_data().glob(f"*/{name}*/images/*.png")
    return read_image(path)


@pytest.fixture(scope="module")
def model():
    """Otsu's threshold in tiles."""
    return Tiles(load_model("classical/otsu", settings={"TILE_SIZE": 0}), 256, 64)


@pytest.fixture
def path(tmp_path):
    """A shipped field as a tiled TIFF of 1 µm a pixel."""
    options = {"tile": (128, 128), "compression": "zlib", "photometric": "rgb"}
    tifffile.imwrite(tmp_path / "a.tif", field("da5f"), resolution=(1e4, 1e4), resolutionunit="CENTIMETER", **options)
    return tmp_path / "a.tif"


@pytest.mark.parametrize("name", ["out.tif", "out.zarr"])
def test_labels_and_scores_are_those_of_the_image_in_memory(model, path, name):
    if name.endswith(".zarr"):
        pytest.importorskip("zarr")
    (whole,) = model.predict(read_image(path))
    with open_lazy(path) as image:
        found = predict_large(model, image, path.with_name(name), progress=False)
    np.testing.assert_array_equal(read_labels(path.with_name(name)), whole.labels)
    np.testing.assert_array_equal(np.float32([nucleus.score for nucleus in found.nuclei]), whole.scores)
    assert whole.labels.max() > 50 and found.tiles > 4 and not path.with_name(f"{name}.tiles").exists()
    if name.endswith(".tif"):
        with tifffile.TiffFile(path.with_name(name)) as file:
            assert file.pages[0].is_tiled and file.pages[0].tags["XResolution"].value == (10_000, 1)


@pytest.mark.parametrize("settings", [{"SCALE": 0.5}, {"DIAMETER": 30.0, "KNOWN_DIAMETERS": (10, 15, 20)}])
def test_a_chosen_scale_is_that_of_the_image_in_memory(path, settings):
    model = load_model("classical/otsu", settings={"TILE_SIZE": 256, "TILE_OVERLAP": 64, **settings})
    (whole,) = model.predict(read_image(path))
    with open_lazy(path) as image:
        found = predict_large(model, image, path.with_name("out.tif"), progress=False)
    assert found.scale == whole.scale == 0.5
    np.testing.assert_array_equal(read_labels(path.with_name("out.tif")), whole.labels)


def test_the_scale_is_found_and_nuclei_that_the_model_does_not_know_are_reported(path, caplog):
    settings = {"TILE_SIZE": 256, "TILE_OVERLAP": 64, "KNOWN_DIAMETERS": (6, 8, 11)}
    model = load_model("classical/otsu", settings=settings)
    with open_lazy(path) as image:
        found = predict_large(model, image, path.with_name("out.tif"), progress=False)
        (whole,) = at_factor(model.model, found.scale).predict(read_image(path))
        np.testing.assert_array_equal(read_labels(path.with_name("out.tif")), whole.labels)
        assert 0.2 < found.scale < 0.9 and "KNOWN" not in caplog.text
        model.config.KNOWN_DIAMETERS = (1000, 1001, 1002)
        predict_large(model, image, path.with_name("out.tif"), progress=False)
    assert "a.tif: nuclei of about" in caplog.text


class Killed(BaseException):
    """An end without warning, as by a signal."""


def test_a_killed_run_goes_on_with_the_missing_tiles(model, path, monkeypatch):
    (whole,) = model.predict(read_image(path))
    predicted = []
    original = large.TileLooking.look

    def look(self, number):
        if len(predicted) == 5:
            raise Killed
        predicted.append(number)
        return original(self, number)

    monkeypatch.setattr(large.TileLooking, "look", look)
    output = path.with_name("out.tif")
    with open_lazy(path) as image, pytest.raises(Killed):
        predict_large(model, image, output, identity="", progress=False)
    assert not output.exists()
    first, work = list(predicted), path.with_name("out.tif.tiles")
    # A file that was cut off is made again.
    (work / "000002.npz").write_bytes((work / "000002.npz").read_bytes()[:100])
    predicted.clear()
    monkeypatch.setattr(large.TileLooking, "look", lambda *given: predicted.append(given[1]) or original(*given))
    with open_lazy(path) as image:
        found = predict_large(model, image, output, identity="", progress=False)
    assert len(predicted) == found.tiles - 4 and set(predicted) & set(first) == {first[2]}
    np.testing.assert_array_equal(read_labels(output), whole.labels)


@pytest.mark.parametrize("change", ["image", "model", "tiles", "glass", "nothing known"])
def test_the_tiles_of_another_image_or_model_are_not_used(model, path, monkeypatch, change):
    output = path.with_name("out.tif")
    original = large._bands

    def stop(*_):
        raise Killed

    monkeypatch.setattr(large, "_bands", stop)
    with open_lazy(path) as image, pytest.raises(Killed):
        predict_large(model, image, output, identity="", progress=False)
    monkeypatch.setattr(large, "_bands", original)
    options = {"identity": ""}
    if change == "image":
        tifffile.imwrite(path, field("da5f")[::-1], tile=(128, 128), photometric="rgb")
    elif change == "model":
        options = {"identity": "other weights"}
    elif change == "nothing known":
        options = {}
    elif change == "tiles":
        model = Tiles(model.model, 320, 64)
    else:
        options |= {"skip_glass": False}
    predicted = []
    look = large.TileLooking.look
    monkeypatch.setattr(large.TileLooking, "look", lambda *given: predicted.append(1) or look(*given))
    with open_lazy(path) as image:
        assert predict_large(model, image, output, progress=False, **options).tiles == len(predicted)


def test_empty_glass_is_left_out_unless_it_is_asked_for(model, tmp_path):
    rng = np.random.default_rng(0)
    slide = np.clip(rng.normal(240, 2, (768, 768, 3)), 0, 255).astype(np.uint8)
    yy, xx = np.mgrid[:768, :768]
    for y, x in ((60, 70), (100, 60), (110, 140)):
        slide[(yy - y) ** 2 + (xx - x) ** 2 < 100] = 120, 70, 160
    tifffile.imwrite(tmp_path / "a.tif", slide, tile=(128, 128), photometric="rgb")
    with open_lazy(tmp_path / "a.tif") as image:
        found = predict_large(model, image, tmp_path / "out.tif", progress=False)
        every = predict_large(model, image, tmp_path / "all.tif", skip_glass=False, progress=False)
    assert found.glass == found.tiles - 1 and every.glass == 0
    assert len(found.nuclei) == 3
    np.testing.assert_array_equal(read_labels(tmp_path / "out.tif"), read_labels(tmp_path / "all.tif"))


def test_what_needs_the_whole_image_is_refused(model, path):
    with open_lazy(path) as image:
        with pytest.raises(ValueError, match="CLAHE equalises the whole image"):
            predict_large(load_model("classical/otsu", settings={"CLAHE": True}), image, path.with_name("out.tif"))
        with pytest.raises(ValueError, match="in tiles"):
            predict_large(model.model, image, path.with_name("out.tif"))
        with pytest.raises(ValueError, match=r"written as \.tif, \.tiff or \.zarr"):
            predict_large(model, image, path.with_name("out.png"))


def test_blocks_are_measured_as_the_whole_image_is(model, path, monkeypatch):
    monkeypatch.setattr(blocks, "_BLOCK", 300)
    with open_lazy(path) as image:
        found = predict_large(model, image, path.with_name("out.tif"), progress=False)
        table = measure_large(found.nuclei, image)
    expected = measure(read_labels(path.with_name("out.tif")), read_raw(path))
    pd.testing.assert_frame_equal(table, expected, check_dtype=False, rtol=1e-9)
    with open_lazy(path) as image:
        assert list(measure_large([], image).columns[:2]) == ["label", "area"]


def test_detect_reads_a_large_image_by_regions_and_the_others_whole(path, capsys):
    tifffile.imwrite(path.with_name("small.tif"), field("da5f")[:99, :99], photometric="rgb")
    settings = ["--set=LAZY_SIZE=500", "--set=TILE_SIZE=256", "--set=TILE_OVERLAP=64"]
    out = path.with_name("out")
    command = ["detect", "--preset=otsu", str(path.parent), f"--output={out}", *settings]
    assert cli.main(command) == 0
    assert "2 images" in capsys.readouterr().out
    assert not list(out.rglob("*.tiles")) and not list((out / ".nucleus").glob("tiles/*"))
    before = {file.relative_to(out): file.read_bytes() for file in out.glob("*/*.*")}
    assert cli.main([*command, "--resume"]) == 0
    assert "2 images" in capsys.readouterr().out
    assert {file.relative_to(out): file.read_bytes() for file in out.glob("*/*.*")} == before
    labels = read_labels(out / "labels" / "a.tif")
    whole = cli.main(["detect", "--preset=otsu", str(path), f"--output={path.with_name('whole')}", *settings[1:]])
    assert whole == 0
    np.testing.assert_array_equal(labels, read_labels(path.with_name("whole") / "labels" / "a.png"))
    table = pd.read_csv(out / "nuclei_a.csv")
    expected = pd.read_csv(path.with_name("whole") / "nuclei.csv")
    pd.testing.assert_frame_equal(table, expected, check_dtype=False, rtol=1e-3)
    assert list(pd.read_csv(out / "images.csv")["ImageId"]) == ["small"]
