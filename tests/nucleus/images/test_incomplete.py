"""Images that are too large to be decoded, and TIFFs that lack strips or tiles, are refused by name."""

import cv2
import numpy as np
import pytest
import tifffile

from nucleus import cli
from nucleus.datasets.dataset import shipped_data
from nucleus.images.decoding.base import LIMIT_VARIABLE
from nucleus.images.reading import ImageFileError, read_image, read_labels

FIELD = read_image(min(shipped_data().glob("stage1_train/*/images/*.png"), key=lambda path: path.stat().st_size))


def with_fewer(path, tags, entries):
    """Lowers the number of strips or tiles that the file states below the one it has."""
    with tifffile.TiffFile(path, mode="r+b") as file:
        for tag in tags:
            found = file.pages[0].tags[tag]
            file.filehandle.seek(found.offset + 4)
            file.filehandle.write(entries.to_bytes(4, "little"))


@pytest.mark.parametrize("options", [{"rowsperstrip": 16}, {"tile": (64, 64)}])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_tiff_with_fewer_strips_or_tiles_than_it_needs_is_refused(tmp_path, options, compression):
    path, (kind, tags) = tmp_path / "a.tif", ("strips", ("StripOffsets", "StripByteCounts"))
    if "tile" in options:
        kind, tags = "tiles", ("TileOffsets", "TileByteCounts")
    tifffile.imwrite(path, FIELD[..., 0], compression=compression, **options)
    np.testing.assert_array_equal(read_image(path), np.repeat(FIELD[..., :1], 3, axis=2))
    with_fewer(path, tags, 9)
    for read in (read_image, read_labels):
        with pytest.raises(ImageFileError, match=rf"a\.tif: the TIFF is .*damaged: it has 9 {kind}, its size needs"):
            read(path)


def test_a_sparse_tiff_is_read_with_a_warning(tmp_path, caplog):
    tiles = [FIELD[y : y + 64, x : x + 64, 0] for y in range(0, 256, 64) for x in range(0, 256, 64)]
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        (None if number == 5 else tile for number, tile in enumerate(tiles)),
        shape=(256, 256),
        dtype=np.uint8,
        tile=(64, 64),
    )
    expected = FIELD[:256, :256, 0].copy()
    expected[64:128, 64:128] = 0
    np.testing.assert_array_equal(read_image(path)[..., 0], expected)
    assert "a.tif: is sparse: 1 of its 16 tiles are stored as empty and read as 0" in caplog.text


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
def test_an_image_above_the_limit_is_refused_before_it_is_decoded(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"a{suffix}"
    assert cv2.imwrite(str(path), FIELD)
    height, width = FIELD.shape[:2]
    monkeypatch.setenv(LIMIT_VARIABLE, str(height * width - 1))
    for name in ("imdecode",):
        monkeypatch.setattr(cv2, name, None)
    with pytest.raises(ImageFileError, match=rf"a\{suffix}: the image has {width} x {height} pixels, above the limit"):
        read_image(path)
    monkeypatch.undo()
    monkeypatch.setenv(LIMIT_VARIABLE, "0")
    assert read_image(path).shape == FIELD.shape


def test_the_limit_is_an_option_and_fails_one_image_only(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv(LIMIT_VARIABLE, "")
    cv2.imwrite(str(tmp_path / "large.png"), FIELD)
    cv2.imwrite(str(tmp_path / "small.png"), FIELD[:50, :60])
    command = ["detect", "--preset=otsu", str(tmp_path), f"--output={tmp_path / 'out'}", "--max-pixels=3000"]
    assert cli.main(command) == 1
    assert "large.png: the image has" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out" / "labels").iterdir()] == ["small.png"]


def test_a_limit_that_is_no_number_is_refused(tmp_path, monkeypatch):
    cv2.imwrite(str(tmp_path / "a.png"), FIELD[:9, :9])
    monkeypatch.setenv(LIMIT_VARIABLE, "many")
    with pytest.raises(ValueError, match="NUCLEUS_MAX_PIXELS must be a whole number"):
        read_image(tmp_path / "a.png")
