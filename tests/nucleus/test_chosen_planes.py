"""Channels, planes and frames that are chosen for data sets and commands, and what is written of them."""

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from nucleus import cli, detect_images, load_model
from nucleus.commands.arguments import chosen_planes, recorded_settings
from nucleus.datasets.dataset import DatasetError, NucleusDataset, shipped_data
from nucleus.datasets.source import ImageSource
from nucleus.images.decoding import Place, Planes, RawImage
from nucleus.images.reading import (
    ImageFileError,
    read_image,
    read_labels,
    read_rgb,
    read_shape,
    to_rgb,
)
from nucleus.images.writing import write_labels
from nucleus.models.registry import make_config
from nucleus.prediction.writers.base import Record
from nucleus.prediction.writers.labels import LabelStacks
from trainkit.settings import SettingsError

NAMES = ["GFP", "DAPI", "TRITC"]
FIELD = read_image(min(shipped_data().glob("stage1_train/*/images/*.png"), key=lambda path: path.stat().st_size))
# Three channels of 16 bit made of a shipped field, all different.
CHANNELS = np.stack([FIELD[::-1, :, 0], FIELD[..., 1], FIELD[:, ::-1, 2]]).astype(np.uint16) * 7 + 100


def write_channels(path):
    """Writes the three channels by their names."""
    metadata = {"axes": "CYX", "Channel": {"Name": NAMES}}
    tifffile.imwrite(path, CHANNELS, photometric="minisblack", ome=True, metadata=metadata)
    return path


def test_detect_writes_a_label_stack_and_tables_with_numbers_of_all_planes(tmp_path, capsys):
    """Each plane has the nuclei that are found in it alone."""
    planes = np.stack([FIELD[..., 0], FIELD[::-1, :, 0], np.zeros_like(FIELD[..., 0])])
    metadata = {"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    tifffile.imwrite(tmp_path / "a.ome.tif", planes, ome=True, photometric="minisblack", metadata=metadata)
    (tmp_path / "b.tif").write_bytes(b"II*\0")
    for number, plane in enumerate(planes):
        Image.fromarray(plane).save(tmp_path / f"{number}.png")
    command = ["detect", "--preset=otsu", "--plane=all", f"--output={tmp_path / 'out'}"]
    assert cli.main([*command, str(tmp_path / "a.ome.tif"), str(tmp_path / "b.tif")]) == 1
    assert "b.tif: the TIFF is truncated or damaged" in capsys.readouterr().err
    with tifffile.TiffFile(tmp_path / "out" / "stacks" / "a.ome.ome.tif") as file:
        assert file.series[0].axes == "ZYX"
        stack = file.asarray()
    nuclei = pd.read_csv(tmp_path / "out" / "nuclei.csv")
    images = pd.read_csv(tmp_path / "out" / "images.csv")
    assert list(images.columns[:3]) == ["ImageId", "plane", "file"] and list(images["plane"]) == [1, 2, 3]
    assert list(images["ImageId"]) == ["a.ome_z1", "a.ome_z2", "a.ome_z3"]
    for number in range(3):
        single = [*command[:2], str(tmp_path / f"{number}.png"), f"--output={tmp_path / f'alone{number}'}"]
        assert cli.main(single) == 0
        alone = read_labels(tmp_path / f"alone{number}" / "labels" / f"{number}.png")
        np.testing.assert_array_equal(stack[number], alone)
        assert sorted(nuclei[nuclei["plane"] == number + 1]["label"]) == list(range(1, alone.max() + 1))
    assert len(nuclei) and list(nuclei.columns[:2]) == ["ImageId", "plane"]
    assert list(pd.read_csv(tmp_path / "out" / "submission.csv").columns) == ["ImageId", "EncodedPixels"]


def test_an_incomplete_stack_is_completed_from_label_files_or_not_written(tmp_path, caplog):
    labels = np.arange(12, dtype=np.int32).reshape(3, 4)
    raw = RawImage(labels[..., None], ("",), (0,))

    def add(writer, plane):
        writer.add(
            Record(f"a_z{plane}", "a.tif", to_rgb(labels), labels * plane, None, raw, Place("a", None, plane, 1, 2))
        )

    writer = LabelStacks(tmp_path)
    add(writer, 2)
    writer.close()
    assert "a: 1 of 2 planes have labels, so no stack" in caplog.text and not (tmp_path / "stacks").exists()
    write_labels(tmp_path / "labels" / "a_z1.png", labels)
    writer = LabelStacks(tmp_path)
    add(writer, 2)
    writer.close()
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "stacks" / "a.ome.tif"), [labels, 2 * labels])


def test_labels_need_one_plane(tmp_path):
    metadata = {"axes": "ZYX"}
    tifffile.imwrite(
        tmp_path / "a.ome.tif", CHANNELS[:, :40, :50], ome=True, photometric="minisblack", metadata=metadata
    )
    tifffile.imwrite(tmp_path / "a.ome_masks.tif", np.zeros((40, 50), np.uint16))
    with pytest.raises(DatasetError, match="labels belong to one plane and frame"):
        ImageSource(tmp_path, planes=Planes(plane="all")).load("all")


def test_a_data_set_reads_the_chosen_channel(tmp_path):
    write_channels(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "a_masks.tif", (CHANNELS[1] > 300).astype(np.uint16))
    assert read_shape(tmp_path / "a.tif") == CHANNELS.shape[1:]
    dataset = ImageSource(tmp_path, planes=Planes("DAPI")).load("all")
    np.testing.assert_array_equal(dataset.load_image(0), to_rgb(CHANNELS[1]))
    assert dataset.load_labels(0)[0].max() == 1
    plain = NucleusDataset()
    plain.load_nucleus(tmp_path, "all")
    plain.prepare()
    with pytest.raises(ImageFileError, match="2 DAPI"):
        plain.load_image(0)


def test_detect_reads_the_chosen_channel(tmp_path, capsys):
    path = write_channels(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "alone.tif", CHANNELS[1])
    command = ["detect", "--preset=otsu", str(path), f"--output={tmp_path / 'out'}"]
    assert cli.main(command) == 1
    assert "1 GFP, 2 DAPI, 3 TRITC" in capsys.readouterr().err
    assert cli.main([*command[:2], str(path), str(tmp_path / "alone.tif"), command[-1], "--channel=DAPI"]) == 1
    assert "no channel 'DAPI'" in capsys.readouterr().err
    assert cli.main(["detect", "--preset=otsu", str(tmp_path / "alone.tif"), f"--output={tmp_path / 'alone'}"]) == 0
    found = read_labels(tmp_path / "out" / "labels" / "a.png")
    np.testing.assert_array_equal(found, read_labels(tmp_path / "alone" / "labels" / "alone.png"))


def test_detect_images_reads_the_channel_of_the_model_unless_another_is_chosen(tmp_path):
    path = write_channels(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "b.tif", CHANNELS[1])
    model = load_model("classical/otsu", settings={"FILE_CHANNEL": "DAPI"})
    own, alone = (detect_images(each, model=model, progress=False) for each in (path, tmp_path / "b.tif"))
    labels = [read_labels(run.output / "labels" / f"{name}.png") for run, name in ((own, "a"), (alone, "b"))]
    np.testing.assert_array_equal(*labels)
    other = detect_images(path, tmp_path / "gfp", model, planes=Planes("GFP"), progress=False)
    assert (read_labels(other.output / "labels" / "a.png") != labels[0]).any()


@pytest.mark.parametrize(
    "command",
    [
        ["detect", "a.tif"],
        ["measure", "labels", "a.tif"],
        ["evaluate"],
        ["train", "--weights=none"],
        ["tune"],
        ["modality"],
        ["convert", "--to=coco", "--output=b"],
        ["compare"],
        ["search", "--try=LEARNING_RATE=1..2"],
        ["reproduce", "zhang-final"],
        ["ensemble", "fit", "--member=a=b", "--output=c.json"],
        ["ensemble", "predict", "--member=a=b", "--ensemble=c.json"],
    ],
)
def test_every_command_that_reads_images_takes_the_options(command):
    args = cli.make_parser().parse_args([*command, "--channel=DAPI", "--project=max", "--frame=2", "--scene=A1"])
    assert chosen_planes(args) == Planes(["DAPI"], project="max", frame=2, scene="A1")
    with pytest.raises(SystemExit):
        cli.make_parser().parse_args([*command, "--plane=1", "--project=max"])


def test_evaluate_scores_on_the_chosen_channel(tmp_path, capsys):
    (tmp_path / "set").mkdir()
    write_channels(tmp_path / "set" / "a.tif")
    tifffile.imwrite(tmp_path / "alone.tif", CHANNELS[1])
    command = ["detect", "--preset=otsu", str(tmp_path / "alone.tif"), f"--output={tmp_path / 'out'}"]
    assert cli.main([*command, "--label-format=tif"]) == 0
    (tmp_path / "out" / "labels" / "alone.tif").rename(tmp_path / "set" / "a_masks.tif")
    command = ["evaluate", f"--dataset={tmp_path / 'set'}", "--subset=all", "--preset=otsu"]
    scores = []
    for channel in ("DAPI", "GFP"):
        output = tmp_path / channel
        assert cli.main([*command, f"--channel={channel}", f"--output={output}"]) == 0
        scores.append(pd.read_csv(output / "scores.csv")["mAP"][0])
    assert scores[0] == 1 and scores[1] < 0.5
    assert cli.main([*command, f"--output={tmp_path / 'none'}"]) == 1
    assert "1 GFP, 2 DAPI, 3 TRITC" in capsys.readouterr().err


def test_the_channel_of_a_training_is_recorded_and_read_by_default(tmp_path):
    parser = cli.make_parser()
    train = parser.parse_args(["train", "--weights=none", "--channel=DAPI", "--set", "LEARNING_RATE=0.1"])
    recorded = recorded_settings(train)
    assert recorded == {"LEARNING_RATE": "0.1", "FILE_CHANNEL": "DAPI"}
    config = make_config("inference", "small", {"FILE_CHANNEL": recorded["FILE_CHANNEL"]}, "unet")
    detect = ["detect", "a.tif"]
    own = chosen_planes(parser.parse_args(detect), config)
    assert own == Planes(["DAPI"], learned=True)
    assert chosen_planes(parser.parse_args([*detect, "--channel=GFP"]), config) == Planes(["GFP"])
    path = write_channels(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_rgb(path, own), to_rgb(CHANNELS[1]))
    # A file of one channel without a name is what it is; one with another name, or with colours, is not guessed.
    tifffile.imwrite(tmp_path / "grey.tif", CHANNELS[0])
    np.testing.assert_array_equal(read_rgb(tmp_path / "grey.tif", own), to_rgb(CHANNELS[0]))
    Image.fromarray(FIELD).save(tmp_path / "colour.png")
    with pytest.raises(ImageFileError, match=r"no channel 'DAPI'.*1 red.*The model was trained on channel DAPI"):
        read_rgb(tmp_path / "colour.png", own)
    with pytest.raises(ValueError, match="cannot be recorded"):
        recorded_settings(parser.parse_args(["train", "--weights=none", "--channel=a|b"]))
    with pytest.raises(SettingsError, match="FILE_CHANNEL"):
        make_config("inference", "small", {"FILE_CHANNEL": "a|b"}, "unet")
