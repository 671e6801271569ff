"""Errors of the command line: their usage, options given twice, near commands; and the images that were taken."""

import argparse

import cv2
import numpy as np
import pytest

from nucleus import cli
from nucleus.commands.parsing import CommandParser
from nucleus.datasets.dataset import shipped_data
from nucleus.datasets.division import select_images
from nucleus.datasets.source import ImageSource


def error_of(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        cli.main([str(argument) for argument in arguments])
    assert end.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("command", [name for name in cli._NAMES if name != "ensemble"])
def test_an_unknown_option_shows_the_usage_of_its_own_command(command, capsys):
    required = {
        "train": ("--weights=none",),
        "search": ("--try=A=1",),
        "pack": ("--weights=shipped", "--output=x.h5"),
        "export": ("--output=x.onnx",),
        "convert": ("--to=coco", "--output=x"),
        "finetune": ("mine",),
        "measure": ("labels", "image.png"),
    }
    message = error_of(capsys, command, *required.get(command, ()), "--no-such-option")
    assert message.startswith(f"usage: nucleus {command} ")
    assert f"nucleus {command}: error: unknown arguments: --no-such-option" in message


def test_an_unknown_option_of_a_command_in_a_command_shows_that_ones_usage(capsys):
    message = error_of(capsys, "ensemble", "fit", "--member=a=b", "--output=c.json", "--no-such-option")
    assert message.startswith("usage: nucleus ensemble fit ")


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (("train", "--weights=none", "--weights=last"), "--weights"),
        (("detect", "a.png", "--output=a", "--output=b"), "--output"),
        (("detect", "a.png", "--tta=none", "--tta=flips"), "--tta"),
        (("evaluate", "--dataset=a", "--dataset", "b"), "--dataset"),
        (("detect", "a.png", "--scale=1", "--scale=2"), "--scale"),
    ],
)
def test_a_single_value_given_twice_is_an_error(arguments, option, capsys):
    assert f"argument {option}: given twice" in error_of(capsys, *arguments)


def test_lists_may_be_given_repeatedly_and_parsers_are_used_again():
    parser = cli.make_parser()
    for _ in range(2):
        args = parser.parse_args(["train", "--weights=none", "--set", "A=1", "--set", "B=2", "--epochs=3"])
        assert args.settings == [("A", "1"), ("B", "2")] and args.epochs == 3


def test_a_value_for_a_member_given_twice_is_an_error(tmp_path, capsys):
    values = ("--epochs", "unet=1", "--epochs", "unet=2")
    assert "argument --epochs: given twice for unet" in error_of(capsys, "compare", *values, f"--output={tmp_path}")


@pytest.mark.parametrize(
    ("typed", "advice"),
    [("detcet", "Did you mean detect?"), ("tran", "Did you mean train?"), ("xyz", "Known: train, ")],
)
def test_a_mistyped_command_gets_the_near_ones_suggested(typed, advice, capsys):
    assert advice in error_of(capsys, typed, "image.png")


def test_detect_alone_asks_for_images(capsys):
    message = error_of(capsys, "detect")
    assert message.startswith("usage: nucleus detect ") and "name images" in message


@pytest.mark.parametrize(
    "arguments", [("train", "--weights=coco"), ("evaluate",), ("detect", "--subset=stage1_test"), ("tune",)]
)
def test_a_clone_without_data_says_where_they_are_to_be_had(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mrcnn.weights.download_coco", lambda: pytest.fail("weights were fetched for no images"))
    assert cli.main([*arguments]) == 1
    message = capsys.readouterr().err
    for expected in ("BBBC038v1", "https://bbbc.broadinstitute.org/BBBC038", "stage1_train/<ImageId>/{images,masks}"):
        assert expected in message


def test_another_missing_data_set_is_not_taken_for_the_default(tmp_path):
    with pytest.raises(ValueError, match="no such folder") as error:
        ImageSource(tmp_path / "gone").load("val")
    assert "BBBC038" not in str(error.value)


@pytest.fixture
def twenty(tmp_path):
    """Twenty images with label images, without parts."""
    for number in range(20):
        for folder, value in (("images", 90), ("labels", 1)):
            (tmp_path / "mine" / folder).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / "mine" / folder / f"{number}.png"), np.full((8, 8), value, np.uint8))
    return tmp_path / "mine"


def test_a_subset_that_was_not_asked_for_is_described(twenty, capsys):
    dataset, which = select_images(ImageSource(twenty), None)
    assert (dataset.num_images, which) == (4, "val")
    printed = capsys.readouterr().out
    assert "4 of 20 images (val: a fifth, set aside by a hash of the ids" in printed and "--subset=all" in printed
    select_images(ImageSource(twenty), None, subset="val")
    assert capsys.readouterr().out == "", "the user chose it"


def test_the_description_names_the_rule_of_the_layout(twenty):
    assert ImageSource(twenty).describe("train", 16).startswith("16 of 20 images (train: all but a fifth")
    assert ImageSource(twenty).describe("train+val", 20) == "20 images (train+val)"
    assert ImageSource(shipped_data()).describe("val", 6) == "6 of 16 images (val)"
    for name in ("training", "validation"):
        (twenty.parent / "parts" / name).mkdir(parents=True)
        for folder in ("images", "labels"):
            target = twenty.parent / "parts" / name / folder
            target.mkdir()
            (target / f"{name}.png").write_bytes((twenty / folder / "0.png").read_bytes())
    parts = ImageSource(twenty.parent / "parts")
    assert parts.describe("val", 1) == "1 of 2 images (val: the part validation)"


def test_parsers_outside_the_command_line_are_left_alone():
    parser = argparse.ArgumentParser()
    parser.add_argument("--one")
    assert parser.parse_args(["--one=1", "--one=2"]).one == "2"
    with pytest.raises(SystemExit):
        own = CommandParser()
        own.add_argument("--one")
        own.parse_args(["--one=1", "--one=2"])
