"""Bad input to the commands: the message names file and cause, the rest goes on, what was written stays."""

import struct
import zlib

import cv2
import numpy as np
import pandas as pd
import pytest

from nucleus import cli
from nucleus.models.mask_rcnn import MaskRCNNModel


@pytest.fixture
def weights(tmp_path, monkeypatch, threshold_model):
    """A weights file that loads as the threshold."""
    monkeypatch.setattr(MaskRCNNModel, "load", lambda *_: threshold_model)
    path = tmp_path / "model.h5"
    path.touch()
    return path


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


def empty(path):
    path.write_bytes(b"")


def text(path):
    path.write_text("no image")


def truncated(path):
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    cv2.imwrite(str(path), image)
    path.write_bytes(path.read_bytes()[:2000])


def zero_size(path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 0, 5, 8, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("spoil", [empty, text, truncated, zero_size])
def test_detect_goes_on_past_a_bad_image_and_names_it(tmp_path, weights, write_squares, capsys, spoil):
    for name in ("a", "c"):
        write_squares(f"in/{name}.png", (2, 2))
    spoil(tmp_path / "in" / "b.png")
    output = tmp_path / "out"
    assert run("detect", tmp_path / "in", "--weights", weights, "--output", output) == 1
    printed = capsys.readouterr()
    (message,) = [line for line in printed.err.splitlines() if "nucleus: error:" in line]
    assert "b.png" in message and "Traceback" not in printed.err
    assert printed.out.startswith("2 images, 2 nuclei") and "1 failed" in printed.out
    assert sorted(path.stem for path in (output / "labels").iterdir()) == ["a", "c"]
    assert sorted(pd.read_csv(output / "submission.csv")["ImageId"]) == ["a", "c"]


def test_detect_goes_on_past_an_image_that_the_model_refuses(tmp_path, monkeypatch, fake_model, write_squares, capsys):
    def refuse(image):
        if image.shape[0] == 12:
            raise ValueError("12 rows are not for me")
        return np.ones(image.shape[:2], np.int32), np.ones(1, np.float32)

    monkeypatch.setattr(MaskRCNNModel, "load", lambda *_: fake_model(refuse))
    (tmp_path / "model.h5").touch()
    for name in ("a", "c"):
        write_squares(f"in/{name}.png", (2, 2))
    cv2.imwrite(str(tmp_path / "in" / "b.png"), np.zeros((12, 9, 3), np.uint8))
    output = tmp_path / "out"
    arguments = (tmp_path / "in", tmp_path / "in" / "a.png", "--weights", tmp_path / "model.h5", "--output", output)
    assert run("detect", *arguments) == 1
    assert "b.png: 12 rows are not for me" in capsys.readouterr().err
    images = pd.read_csv(output / "images.csv")
    assert images["ImageId"].tolist() == ["a", "c"], "the file that was named twice is there once"
    assert images[["height", "width", "nuclei"]].to_numpy().tolist() == [[24, 32, 1]] * 2
    assert [file.endswith(f"{name}.png") for file, name in zip(images["file"], "ac", strict=True)] == [True, True]


def test_nothing_is_touched_if_no_image_could_be_used(tmp_path, weights, write_squares, capsys):
    output = tmp_path / "out"
    assert run("detect", write_squares("in/a.png", (2, 2)), "--weights", weights, "--output", output) == 0
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    empty(tmp_path / "bad.png")
    again = ("--weights", weights, "--output", output, "--overwrite")
    assert run("detect", tmp_path / "bad.png", tmp_path / "gone.png", *again) == 1
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before
    errors = capsys.readouterr().err
    assert "bad.png" in errors and "gone.png" in errors


def test_an_interrupted_run_keeps_the_tables_of_what_was_done(tmp_path, monkeypatch, fake_model, write_squares):
    def interrupt(image):
        if not image.any():
            raise KeyboardInterrupt
        return (image[..., 0] > 0).astype(np.int32), np.ones(1, np.float32)

    monkeypatch.setattr(MaskRCNNModel, "load", lambda *_: fake_model(interrupt))
    monkeypatch.setattr("nucleus.prediction.chunks.CHUNK_IMAGES", 1)
    weights = tmp_path / "model.h5"
    weights.touch()
    write_squares("in/a.png", (2, 2))
    write_squares("in/b.png")
    assert run("detect", tmp_path / "in", "--weights", weights, "--output", tmp_path / "out") == 130
    assert pd.read_csv(tmp_path / "out" / "nuclei.csv")["ImageId"].tolist() == ["a"]
    assert pd.read_csv(tmp_path / "out" / "submission.csv")["ImageId"].tolist() == ["a"]


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_an_image_without_masks_cannot_be_trained_or_scored_on(tmp_path, weights, add_sample, capsys, command):
    add_sample("a", None)
    arguments = ("--dataset", tmp_path, "--subset=train", "--weights", weights, "--logs", tmp_path / "logs")
    assert run(command, *arguments) == 1
    message = capsys.readouterr().err
    assert message.startswith("nucleus: error:") and "a" in message and "mask" in message
    assert not (tmp_path / "logs").exists()


def test_a_mask_of_another_shape_names_both_files(tmp_path, weights, add_sample, rectangle, capsys):
    add_sample("a", [rectangle(1, 1, 4, 4), rectangle(1, 1, 4, 4, shape=(9, 9))])
    arguments = ("--dataset", tmp_path, "--subset=train", "--weights", weights, "--output", tmp_path / "out")
    assert run("evaluate", *arguments) == 1
    message = capsys.readouterr().err
    assert "001.png" in message and "a.png" in message and "(9, 9)" in message
    assert not (tmp_path / "out").exists()


def test_missing_dataset_and_subset_are_named(tmp_path, weights, capsys):
    assert run("evaluate", "--dataset", tmp_path / "nowhere", "--weights", weights) == 1
    assert "nowhere" in capsys.readouterr().err
    assert run("detect", "--dataset", tmp_path, "--subset=stage9", "--weights", weights) == 1
    assert "stage9" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "cause"),
    [("NO_SUCH=1", "NO_SUCH"), ("IMAGES_PER_GPU=two", "IMAGES_PER_GPU"), ("OVERLAP_RULE=first", "OVERLAP_RULE")],
)
@pytest.mark.parametrize("command", ["train", "detect", "evaluate"])
def test_a_setting_that_cannot_be_used_is_named(tmp_path, weights, write_squares, capsys, command, setting, cause):
    image = [write_squares("a.png")] if command == "detect" else []
    assert run(command, *image, "--weights", weights, "--set", setting) == 1
    assert f"nucleus: error: {cause}" in capsys.readouterr().err.replace("Unknown configuration attribute '", "")


@pytest.mark.parametrize("command", ["train", "detect", "evaluate"])
def test_missing_weights_are_named(tmp_path, capsys, command, write_squares):
    image = [write_squares("a.png")] if command == "detect" else []
    assert run(command, *image, "--weights", tmp_path / "gone.h5") == 1
    assert "gone.h5" in capsys.readouterr().err
    assert run(command, *image, "--weights=last", "--logs", tmp_path / "logs") == 1
    assert str(tmp_path / "logs") in capsys.readouterr().err


def test_detect_goes_on_past_an_image_folder_without_an_image(tmp_path, weights, add_sample, capsys):
    for name in ("a", "b", "c"):
        add_sample(name, None, folder="stage1_test")
    (image,) = (tmp_path / "stage1_test" / "b" / "images").iterdir()
    image.unlink()
    output = tmp_path / "out"
    assert run("detect", "--dataset", tmp_path, "--weights", weights, "--output", output) == 1
    assert sorted(path.stem for path in (output / "labels").iterdir()) == ["a", "c"]
    (message,) = [line for line in capsys.readouterr().err.splitlines() if "nucleus: error:" in line]
    assert str(image.parent) in message and "found 0" in message
