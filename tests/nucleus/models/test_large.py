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
from nucleus.models.large import TileLooking, predict_large
from nucleus.models.levels import fit_level
from nucleus.models.limits import Limit, report_limit
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


def kill_after(monkeypatch, tiles):
    """Lets a run end after some tiles; returns the numbers of the tiles that are predicted."""
    predicted, original = [], TileLooking.look

    def look(self, number):
        if len(predicted) == tiles:
            raise Killed
        predicted.append(number)
        return original(self, number)

    monkeypatch.setattr(TileLooking, "look", look)
    return predicted


@pytest.mark.parametrize("name", ["out.tif", "out.zarr"])
def test_a_killed_run_goes_on_with_the_missing_tiles_and_leaves_the_files_of_an_undisturbed_one(
    model, path, name, monkeypatch
):
    if name.endswith(".zarr"):
        pytest.importorskip("zarr")
    output, whole = path.with_name(name), path.with_name(f"whole{name[3:]}")
    with open_lazy(path) as image:
        undisturbed = predict_large(model, image, whole, identity="", progress=False)
        with monkeypatch.context() as patch:
            first = kill_after(patch, 5)
            with pytest.raises(Killed):
                predict_large(model, image, output, identity="", progress=False)
    assert not output.exists() and first == [0, 1, 2, 3, 4]
    work = path.with_name(f"{name}.tiles")
    # A file that was cut off is made again, and what a kill left of the label image is removed.
    (work / "000002.npz").write_bytes((work / "000002.npz").read_bytes()[:100])
    left = path.with_name(f".out.abcd1234{output.suffix}")
    left.touch()
    predicted = kill_after(monkeypatch, None)
    with open_lazy(path) as image:
        found = predict_large(model, image, output, identity="", progress=False)
    assert predicted == [2, *range(5, found.tiles)] and not left.exists() and not work.exists()
    files = [output] if output.is_file() else [file for file in output.rglob("*") if file.is_file()]
    for file in files:
        assert file.read_bytes() == (whole / file.relative_to(output)).read_bytes(), file
    assert [nucleus.bits for nucleus in found.nuclei] == [nucleus.bits for nucleus in undisturbed.nuclei]


def test_the_label_image_is_written_while_tiles_are_predicted(model, path, monkeypatch):
    predicted, written = kill_after(monkeypatch, None), []
    monkeypatch.setattr(large, "_BAND", 64)

    def write(output, bands, *_):
        written.extend((len(predicted), band.max(initial=0)) for band in bands)

    monkeypatch.setattr(large, "write_label_bands", write)
    with open_lazy(path) as image:
        found = predict_large(model, image, path.with_name("out.tif"), progress=False)
    assert written[0][0] == 4 < found.tiles == written[-1][0] and len(written) == 9
    assert [highest for _, highest in written if highest] and max(written)[1] <= len(found.nuclei)


def test_a_limit_that_was_reached_before_a_kill_is_reported_when_the_run_goes_on(model, path, monkeypatch, caplog):
    original = TileLooking.look

    def look(self, number):
        if number == 0:
            report_limit(Limit("MOST", 7, (256, 256)))
        if number == 3 and not caplog.records:
            raise Killed
        return original(self, number)

    monkeypatch.setattr(TileLooking, "look", look)
    with open_lazy(path) as image, pytest.raises(Killed):
        predict_large(model, image, path.with_name("out.tif"), identity="", progress=False)
    caplog.clear()
    monkeypatch.setattr(TileLooking, "look", original)
    with open_lazy(path) as image:
        predict_large(model, image, path.with_name("out.tif"), identity="", progress=False)
    assert "a.tif: MOST=7 nuclei" in caplog.text


@pytest.mark.parametrize("change", ["image", "model", "tiles", "glass", "nothing known"])
def test_the_tiles_of_another_image_or_model_are_not_used(model, path, monkeypatch, change):
    output = path.with_name("out.tif")

    def stop(output, bands, *_):
        list(bands)
        raise Killed

    with monkeypatch.context() as patch, open_lazy(path) as image, pytest.raises(Killed):
        patch.setattr(large, "write_label_bands", stop)
        predict_large(model, image, output, identity="", progress=False)
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
    predicted = kill_after(monkeypatch, None)
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
    images = pd.read_csv(out / "images.csv").set_index("ImageId")
    assert list(images.index) == ["a", "small"] and images.loc["a", "nuclei"] == len(table)
    assert (images.loc["a", "level"], images.loc["a", "downsampling"], images.loc["a", "pixel_size_um"]) == (0, 1, 1)
    assert images.loc["a", "area_median"] == expected["area"].median() and np.isnan(images.loc["small", "level"])


# ---- Levels of a pyramid ---------------------------------------------------------------------------------------------

# Diameters of the nuclei of the field, in its own pixels.
KNOWN = (10, 22, 40)


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    """A function that writes a pyramid whose level 2 is a shipped field; its largest level has pixels of a size."""

    def write(pixel_size):
        path = tmp_path_factory.mktemp("slide") / "slide.tif"
        sizes = {} if pixel_size is None else {f"PhysicalSize{axis}": pixel_size for axis in "XY"}
        levels = [field("da5f").repeat(factor, 0).repeat(factor, 1) for factor in (4, 2, 1)]
        with tifffile.TiffWriter(path, ome=True) as file:
            options = {"tile": (256, 256), "photometric": "rgb"}
            file.write(levels[0], subifds=2, metadata={"axes": "YXS", **sizes}, **options)
            for level in levels[1:]:
                file.write(level, subfiletype=1, **options)
        return path

    return write


def knowing(**settings):
    return load_model("classical/otsu", settings={"TILE_SIZE": 256, "TILE_OVERLAP": 64, **settings})


@pytest.mark.parametrize(
    ("settings", "pixel_size", "factor"),
    [
        ({"SCALE": 0.25}, None, 1),
        ({"SCALE": 0.3}, None, 0.6),
        ({"DIAMETER": 88.0, "KNOWN_DIAMETERS": KNOWN}, None, 1),
        ({"DIAMETER_UM": 13.2, "KNOWN_DIAMETERS": KNOWN}, 0.15, 1),
    ],
)
def test_the_level_that_fits_what_the_user_says_is_read(slide, settings, pixel_size, factor):
    with open_lazy(slide(pixel_size)) as image:
        model = knowing(**settings).at_pixel_size(image.pixel_size)
        fit = fit_level(model, image)
    assert (fit.level, fit.factor) == (2 if factor == 1 else 1, pytest.approx(factor))


@pytest.mark.parametrize("pixel_size", [None, 0.1, 2.0])
def test_the_level_is_estimated_from_nuclei_whatever_the_size_of_a_pixel(slide, pixel_size):
    with open_lazy(slide(pixel_size)) as image:
        fit = fit_level(knowing(KNOWN_DIAMETERS=KNOWN), image)
    assert fit.level == 2 and 0.75 < fit.factor <= 1 and 24 < fit.diameter < 29
    assert "estimated from nuclei" in fit.reason


def test_a_level_without_a_scale_is_said(slide, monkeypatch, caplog):
    path = slide(None)
    with open_lazy(path, level=1) as image:
        fit = fit_level(knowing(), image)
    assert (fit.level, fit.warning) == (1, "")
    monkeypatch.setattr(TileLooking, "look", lambda self, number: ([self.tiles[number]], []))
    for _ in range(2):
        # A run that goes on says so again.
        with open_lazy(path) as image:
            found = predict_large(knowing(), image, path.with_name("a.tif"), identity="", work=path.with_name("work"))
        assert found.fit.level == 0 and "slide.tif: is read at the largest of its 3 levels" in caplog.text
        caplog.clear()


def test_an_image_without_nuclei_is_said_to_have_no_scale(tmp_path):
    tifffile.imwrite(tmp_path / "empty.tif", np.zeros((500, 600), np.uint8), tile=(256, 256))
    with open_lazy(tmp_path / "empty.tif") as image:
        fit = fit_level(knowing(KNOWN_DIAMETERS=KNOWN), image)
    assert (fit.level, fit.factor, fit.diameter) == (0, 1, None)
    assert "no nuclei were found in 1 region" in fit.warning


def test_nuclei_of_a_level_are_measured_in_its_pixels_and_in_micrometres(slide, capsys):
    path = slide(0.25)
    out = path.with_name("out")
    command = ["detect", "--preset=otsu", str(path), f"--output={out}", "--scale=0.25", "--label-format=zarr"]
    pytest.importorskip("zarr")
    assert cli.main([*command, *("--set=LAZY_SIZE=500", "--set=TILE_SIZE=256", "--set=TILE_OVERLAP=64")]) == 0
    assert "level 2 of 3 (696 x 520, 1 µm a pixel), shown to the model at 1 times" in capsys.readouterr().err
    (row,) = pd.read_csv(out / "images.csv").to_dict("records")
    assert (row["level"], row["downsampling"], row["scale"], row["height"]) == (2, 4, 1, 520)
    labels = read_labels(out / "labels" / "slide.zarr")
    table = pd.read_csv(out / "nuclei_slide.csv")
    assert labels.shape == (520, 696) and labels.max() == len(table) == row["nuclei"] > 100
    assert list(table["area"]) == np.bincount(labels.ravel())[1:].tolist()
    np.testing.assert_allclose(table["area_um2"], table["area"], rtol=1e-3)
