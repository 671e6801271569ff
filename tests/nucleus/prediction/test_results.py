"""A folder of results is that of one run: refused, replaced, or shared with no other process."""

import json
import os

import pandas as pd
import pytest

import nucleus
from nucleus.prediction.manifest import COMPLETE, read_manifest
from trainkit.locks import exclusive

from .detections import content, detect, recorded

TABLES = ("images.csv", "nuclei.csv", "submission.csv")


def test_results_stand_beside_the_images(images, tmp_path):
    assert detect(images) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plate", "plate_nuclei"]
    first, second, *_ = sorted(images.iterdir())
    assert detect(first) == 0
    assert (images / f"{first.stem}_nuclei" / "nuclei.csv").is_file()
    assert detect(first, second, "--overwrite") == 0
    assert pd.read_csv(tmp_path / "plate_nuclei" / "images.csv")["ImageId"].tolist() == [first.stem, second.stem]


def test_a_folder_named_as_the_present_one_has_its_results_beside_it(images, monkeypatch):
    monkeypatch.chdir(images)
    assert detect(".") == 0
    assert len(pd.read_csv(images.with_name("plate_nuclei") / "images.csv")) == 8


def test_images_in_several_places_have_a_folder_of_their_own(images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "other.png"
    other.write_bytes(next(images.iterdir()).read_bytes())
    assert detect(images, other) == 0
    (folder,) = (tmp_path / "results" / "nucleus").iterdir()
    assert len(pd.read_csv(folder / "images.csv")) == 9


# ---- One run, one folder -----------------------------------------------------------------------------------


def test_the_manifest_says_what_made_the_folder_and_which_files_are_its_own(images, output):
    assert detect(images, "--set", "MIN_AREA=30") == 0
    manifest = json.loads((output / "manifest.json").read_text())
    assert manifest["state"] == "complete"
    assert manifest["facts"]["program"]["nucleus"] == nucleus.__version__
    model = manifest["facts"]["model"]["model"]
    assert model["kind"] == "ClassicalModel" and model["settings"]["MIN_AREA"] == 30
    assert recorded(output) == sorted(content(output))
    table = pd.read_csv(output / "images.csv").set_index("ImageId")
    assert list(manifest["images"]) == table.index.tolist()
    for name, image in manifest["images"].items():
        assert (image["state"], image["nuclei"], image["file"]) == ("done", table["nuclei"][name], table["file"][name])
        assert image["files"] == [f"labels/{name}.png", f"overlays/{name}.png"]


@pytest.mark.skipif(os.name == "nt", reason="a backslash is no letter of a name there")
def test_a_run_knows_its_own_files_where_the_name_of_an_image_has_a_backslash(images, output):
    first, *others = sorted(images.iterdir())
    first.rename(images / "a\\b\nc.png")
    for path in others[1:]:
        path.unlink()
    assert detect(images) == 0
    assert detect(images, "--resume") == 0 and detect(images, "--overwrite") == 0
    assert recorded(output) == sorted(content(output)) and len(content(output)) == 7


def test_results_of_another_run_are_refused_and_replaced_only_when_asked(images, output, capsys):
    assert detect(images) == 0
    before = content(output)
    for path in sorted(images.iterdir())[3:]:
        path.unlink()
    (output / "notes.txt").write_text("mine")
    assert detect(images) == 1
    message = capsys.readouterr().err
    assert str(output) in message and "--resume" in message and "--overwrite" in message
    assert {**before, "notes.txt": b"mine"} == content(output)
    assert detect(images, "--overwrite", "--label-format=tif") == 0
    left = sorted(path.stem for path in images.iterdir())
    assert sorted(path.name for path in (output / "labels").iterdir()) == [f"{name}.tif" for name in left]
    assert sorted(path.stem for path in (output / "overlays").iterdir()) == left
    assert pd.read_csv(output / "images.csv")["ImageId"].tolist() == left
    assert (output / "notes.txt").read_text() == "mine"


def test_files_that_no_run_recorded_are_never_replaced(images, output, capsys):
    (output / "labels").mkdir(parents=True)
    for options in ((), ("--overwrite",), ("--resume",)):
        assert detect(images, *options) == 1
        assert "has labels, but no manifest.json" in capsys.readouterr().err
    (output / "labels").rmdir()
    (output / "overlays.txt").write_text("")
    assert detect(images, "--overwrite") == 0


def test_without_a_finished_image_older_results_and_an_empty_place_stay(images, output, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    assert detect(images) == 0
    before = content(output)
    assert detect(bad, f"--output={output}", "--overwrite") == 1
    assert content(output) == before and read_manifest(output).state == COMPLETE
    assert detect(bad, f"--output={tmp_path / 'new' / 'deep'}") == 1
    assert not (tmp_path / "new").exists()


def test_two_processes_do_not_share_a_folder(images, output, capsys):
    assert detect(images) == 0
    with exclusive(output / ".nucleus" / "lock"):
        assert detect(images, "--overwrite") == 1
    assert "is writing into this folder" in capsys.readouterr().err


def test_a_failed_image_is_in_the_manifest_and_not_in_the_tables(images, output, capsys):
    broken = sorted(images.iterdir())[2]
    broken.write_bytes(broken.read_bytes()[:500])
    assert detect(images) == 1
    assert str(broken) in capsys.readouterr().err
    image = read_manifest(output).images[broken.stem]
    assert image["state"] == "failed" and str(broken) in image["error"]
    assert broken.stem not in pd.read_csv(output / "images.csv")["ImageId"].tolist()
    assert len(list((output / "labels").iterdir())) == 7


def test_an_image_that_one_format_cannot_hold_fails_alone_and_leaves_nothing(
    tmp_path, threshold_model, write_squares, monkeypatch
):
    """A PNG numbers a limited number of nuclei; other formats have taken the image by then, or take it after."""
    monkeypatch.setattr("nucleus.images.writing.HIGHEST_IN_16_BITS", 2)
    write_squares("in/a.png", (2, 2))
    write_squares("in/b.png", (2, 2), (10, 10), (18, 18))
    write_squares("in/c.png", (2, 2))
    formats = ("rle", "overlays", "png", "csv")
    run = nucleus.detect_images(tmp_path / "in", None, threshold_model, formats=formats, progress=False)
    (failure,) = run.failures
    assert "label 3 does not fit into a 16-bit PNG" in failure
    assert ".nucleus" not in failure and str(tmp_path / "in" / "b.png") in failure
    for table in TABLES:
        assert pd.read_csv(run.output / table)["ImageId"].tolist() == ["a", "c"]
    assert recorded(run.output) == sorted(content(run.output)) and len(content(run.output)) == 7


def test_results_are_not_replaced_by_those_of_their_own_pictures(images, output, capsys):
    assert detect(images) == 0
    before = content(output)
    assert detect(output / "overlays", f"--output={output}", "--overwrite") == 1
    assert "is an image to read, and would be removed" in capsys.readouterr().err
    assert content(output) == before
