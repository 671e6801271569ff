"""Images that a run is given: those of folders, each once, with a report of the files that are left out."""

import logging
import os

import pytest

from nucleus import cli
from nucleus.prediction.inputs import collect_images, default_folder


def names(dataset):
    return [info["path"].rpartition("/in/")[2] for info in dataset.image_info]


@pytest.fixture
def tree(tmp_path, write_squares):
    for path in (
        "a.png",
        "a_masks.png",
        "deep/a.png",
        "deep/deeper/b.png",
        "deep/b_seg.png",
        ".hidden/c.png",
        "z/n.txt",
    ):
        if path.endswith(".png"):
            write_squares(f"in/{path}", (2, 2))
    return tmp_path / "in"


def test_folders_in_folders_are_taken_when_asked(tree, caplog):
    assert names(collect_images(tree)[0]) == ["a.png"]
    with caplog.at_level(logging.WARNING):
        dataset, failures = collect_images(tree, recursive=True)
    assert names(dataset) == ["a.png", "deep/a.png", "deep/deeper/b.png"] and not failures
    assert [info["id"] for info in dataset.image_info] == ["a", "a-2", "b"]
    assert "left out 2 files that programs write beside images (a_masks.png, ...)" in caplog.text


def test_results_of_earlier_runs_are_no_images(tree, capsys):
    assert cli.main(["detect", str(tree / "deep"), "--preset=otsu"]) == 0
    assert (tree / "deep_nuclei" / "labels" / "a.png").is_file()
    dataset, _ = collect_images(tree, recursive=True)
    assert names(dataset) == ["a.png", "deep/a.png", "deep/deeper/b.png"]
    assert cli.main(["detect", str(tree), "--preset=otsu", "--recursive"]) == 0
    printed = capsys.readouterr()
    assert "left out 1 folder of results (deep_nuclei)" in printed.err or "3 images" in printed.out
    (tree / "empty").mkdir()
    dataset, (failure,) = collect_images(tree / "empty", recursive=True)
    assert dataset.num_images == 0 and "in this folder and those in it" in failure


def test_a_link_and_its_target_are_one_image_and_that_is_said(tree, caplog):
    os.symlink(tree / "a.png", tree / "link.png")
    os.link(tree / "a.png", tree / "twin.png")
    os.symlink(tree / "deep", tree / "round", target_is_directory=True)
    os.symlink(tree, tree / "deep" / "circle", target_is_directory=True)
    with caplog.at_level(logging.WARNING):
        dataset, failures = collect_images([tree, tree / "a.png"])
    assert names(dataset) == ["a.png"] and not failures
    assert f"left out 2 files that are counted already: {tree / 'link.png'} is {tree / 'a.png'}, ..." in caplog.text
    assert names(collect_images(tree, recursive=True)[0]) == ["a.png", "deep/a.png", "deep/deeper/b.png"]


def test_a_file_given_twice_counts_once_without_a_word(tree, caplog):
    dataset, failures = collect_images([tree / "a.png", tree / "a.png"])
    assert names(dataset) == ["a.png"] and not failures and not caplog.records


def test_missing_paths_are_failures_beside_the_others(tree):
    dataset, failures = collect_images([tree / "gone.png", tree])
    assert names(dataset) == ["a.png"] and len(failures) == 1 and "gone.png" in failures[0]


def test_results_stand_beside_what_is_given(tree, monkeypatch):
    assert default_folder(tree) == tree.with_name("in_nuclei")
    assert default_folder(f"{tree}/") == tree.with_name("in_nuclei")
    assert default_folder([tree / "a.png"]) == tree / "a_nuclei"
    assert default_folder([tree / "a.png", tree / "b.png"]) == tree.with_name("in_nuclei")
    assert default_folder([tree, tree / "a.png"]) is None and default_folder("/") is None
    monkeypatch.chdir(tree)
    assert default_folder("a.png") == tree / "a_nuclei" and default_folder(".") == tree.with_name("in_nuclei")


def test_recursion_without_folders_is_refused(capsys, tmp_path):
    assert cli.main(["detect", "--preset=otsu", "--recursive", f"--dataset={tmp_path}"]) == 1
    assert "--recursive is for folders" in capsys.readouterr().err
