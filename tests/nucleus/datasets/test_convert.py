"""A written data set reads back as the same images and labels, here and in other programs."""

import json

import cv2
import numpy as np
import pytest
import skimage.io
import tifffile
from pycocotools.coco import COCO

from nucleus import cli
from nucleus.datasets.convert import convert
from nucleus.datasets.dataset import DatasetError, NucleusDataset
from nucleus.datasets.layouts import find_layout
from nucleus.images.reading import ImageFileError, read_image


def load(root, subset="all", **options):
    dataset = NucleusDataset(**options)
    dataset.load_nucleus(root, subset)
    dataset.prepare()
    return dataset


def contents(dataset):
    return {
        info["id"]: (info["modality"], dataset.load_image(index).tolist(), dataset.load_labels(index)[0].tolist())
        for index, info in enumerate(dataset.image_info)
    }


@pytest.fixture
def source(tmp_path, add_sample, rectangle):
    """A data set of three images: many small nuclei, two that touch, and one."""
    rng = np.random.default_rng(0)
    many = np.arange(12 * 16).reshape(12, 16)
    add_sample("a", [many == number for number in rng.permutation(192)[:40]])
    add_sample("bb", [rectangle(2, 2, 6, 6), rectangle(2, 6, 6, 9)])
    add_sample("ccc", [rectangle(0, 0, 12, 16)])
    (tmp_path / "classes.csv").write_text("ImageId,foreground,background\nbb,white,black\n")
    return tmp_path


@pytest.mark.parametrize("target", ["labels", "coco"])
def test_what_is_written_reads_back_exactly(source, target):
    output = source / "new" / "out"
    before = load(source)
    convert(before, target, output, progress=False)
    assert find_layout(output).name == target
    after = load(output)
    assert contents(after) == contents(before)
    assert [path.name for path in output.parent.iterdir()] == ["out"], "no temporary folder is left"
    again = source / "again"
    convert(after, {"labels": "coco", "coco": "labels"}[target], again, progress=False)
    assert contents(load(again)) == contents(before)


def test_other_programs_read_it_too(source, capsys):
    before = contents(load(source))
    for target in ("labels", "coco"):
        convert(load(source), target, source / target, progress=False)
    for name, (_, _, labels) in before.items():
        np.testing.assert_array_equal(skimage.io.imread(source / "labels" / "labels" / f"{name}.png"), labels)
    coco = COCO(source / "coco" / "annotations.json")
    for image in coco.loadImgs(coco.getImgIds()):
        labels = np.array(before[image["file_name"].removesuffix(".png")][2])
        annotations = coco.loadAnns(coco.getAnnIds(image["id"]))
        assert len(annotations) == labels.max()
        for number, annotation in enumerate(annotations, start=1):
            mask = labels == number
            np.testing.assert_array_equal(coco.annToMask(annotation), mask)
            y, x = np.nonzero(mask)
            assert annotation["bbox"] == [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]
            assert annotation["area"] == mask.sum()


def test_more_labels_than_a_png_holds_are_written_as_tiff(tmp_path):
    labels = np.arange(300 * 300, dtype=np.uint32).reshape(300, 300)
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), np.zeros((300, 300), np.uint8))
    skimage.io.imsave(tmp_path / "masks" / "a.tif", labels, check_contrast=False)
    convert(load(tmp_path), "labels", tmp_path / "out", progress=False)
    assert (tmp_path / "out" / "labels" / "a.tif").is_file()
    np.testing.assert_array_equal(load(tmp_path / "out").load_labels(0)[0], labels)


def test_fitted_images_are_written_as_fitted(source):
    before = load(source, fit=32)
    convert(before, "labels", source / "out", progress=False)
    after = load(source / "out")
    assert contents(after) == contents(before) and after.load_image(0).shape == (32, 32, 3)


def test_nothing_is_left_of_a_conversion_that_fails(source, monkeypatch):
    image = source / "stage1_train" / "ccc" / "images" / "ccc.png"
    image.write_bytes(image.read_bytes()[:50])
    before = sorted(source.iterdir())
    for target in ("labels", "coco"):
        with pytest.raises(ImageFileError, match=r"ccc\.png"):
            convert(load(source), target, source / "out", progress=False)
    assert sorted(source.iterdir()) == sorted([*before, source / ".label_cache"])


def test_what_is_there_already_is_not_overwritten(source):
    output = source / "out"
    output.mkdir()
    convert(load(source), "labels", output, progress=False)
    files = sorted(output.rglob("*"))
    with pytest.raises(DatasetError, match="out: already exists"):
        convert(load(source), "coco", output, progress=False)
    assert sorted(output.rglob("*")) == files
    with pytest.raises(ValueError, match="target of labels, coco"):
        convert(load(source), "voc", source / "other")


def test_convert_and_layout_from_the_command_line(source, capsys):
    output = source / "out"
    arguments = ["--dataset", str(source), "--subset=stage1_train", "--to=coco", "--output", str(output)]
    assert cli.main(["convert", *arguments]) == 0
    assert capsys.readouterr().out == f"3 images: {output}\n"
    assert len(json.loads((output / "annotations.json").read_text())["annotations"]) == 43
    (output / "labels").mkdir()
    again = ["--dataset", str(output), "--to=labels", "--fit=8", "--output", str(source / "again")]
    assert cli.main(["convert", *again]) == 1
    assert "could be any of the layouts labels, coco" in capsys.readouterr().err
    assert cli.main(["convert", "--layout=coco", *again]) == 0
    assert load(source / "again").load_image(0).shape == (8, 8, 3)


def test_a_chosen_channel_is_written_as_the_image(tmp_path):
    channels = np.random.default_rng(0).integers(0, 255, (2, 20, 30), np.uint8)
    metadata = {"axes": "CYX", "Channel": {"Name": ["GFP", "DAPI"]}}
    (tmp_path / "set").mkdir()
    tifffile.imwrite(tmp_path / "set" / "a.tif", channels, ome=True, photometric="minisblack", metadata=metadata)
    tifffile.imwrite(tmp_path / "set" / "a_masks.tif", (channels[1] > 200).astype(np.uint16))
    command = ["convert", f"--dataset={tmp_path / 'set'}", "--to=labels", "--channel=DAPI"]
    assert cli.main([*command, f"--output={tmp_path / 'out'}"]) == 0
    written = read_image(tmp_path / "out" / "images" / "a.png")
    np.testing.assert_array_equal(written, np.repeat(channels[1][..., None], 3, axis=2))
