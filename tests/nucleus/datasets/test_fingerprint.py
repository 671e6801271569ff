"""Telling images from others: what a training or a comparison may go on with, wherever its data set has moved."""

import shutil

import pytest

from nucleus.datasets.dataset import NucleusDataset
from nucleus.datasets.fingerprint import IMAGES_FILE, check_images, fingerprint, note_images
from nucleus.models.weights import Recipe
from nucleus.training.runs import train_or_resume


def load(root):
    dataset = NucleusDataset()
    dataset.load_nucleus(root, "stage1_train")
    dataset.prepare()
    return dataset


@pytest.fixture
def pair(add_sample, rectangle, tmp_path):
    """Two folders with the same images, the second copied later."""
    for name in "ab":
        add_sample(name, [rectangle(1, 1, 5, 5)], folder="here/stage1_train")
    return tmp_path / "here", shutil.copytree(tmp_path / "here", tmp_path / "there", copy_function=shutil.copyfile)


def alter_a_byte(root):
    path = next(root.rglob("a.png"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def alter_a_mask(root):
    path = next(root.rglob("a/masks/000.png"))
    path.write_bytes(path.read_bytes() + b"\0")


def rename(root):
    (root / "stage1_train" / "a").rename(root / "stage1_train" / "c")


def remove(root):
    shutil.rmtree(root / "stage1_train" / "a")


@pytest.mark.parametrize("change", [alter_a_byte, alter_a_mask, rename, remove])
def test_it_changes_with_the_images_and_not_with_their_place(pair, change):
    infos = [load(root).image_info for root in pair]
    first, second = map(fingerprint, infos)
    assert first == second == fingerprint(reversed(infos[0])) and first.startswith("2 images, ")
    change(pair[1])
    assert fingerprint(load(pair[1]).image_info) != first


def test_a_training_goes_on_with_the_images_it_was_begun_with(pair, tmp_path, caplog):
    recipe = Recipe("small", {"STAGES": (("all", 1),)}, "unet")
    checkpoint = tmp_path / "run" / "nucleus20240101T0000" / "unet_nucleus_0001.h5"
    recipe.save(checkpoint.parent)
    checkpoint.touch()
    here, there = map(load, pair)

    def go_on(train, val):
        return train_or_resume(recipe, "none", None, tmp_path / "run", train, val)

    assert go_on(here, here) == checkpoint, "one that was made before images were noted"
    assert "run/nucleus20240101T0000: of which images" in caplog.text
    note_images(checkpoint.parent, dict.fromkeys(("train", "val"), fingerprint(here.image_info)))
    caplog.clear()
    assert go_on(there, there) == checkpoint and not caplog.text
    alter_a_byte(pair[1])
    changed = load(pair[1])
    for datasets, name in (((changed, here), "train"), ((here, changed), "val")):
        with pytest.raises(ValueError, match=rf"{IMAGES_FILE}: made of other images.*{name}: 2 images, \w+ there"):
            go_on(*datasets)


def test_a_note_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / IMAGES_FILE).write_text("[1]")
    with pytest.raises(ValueError, match=f"{IMAGES_FILE}: no note of images"):
        check_images(tmp_path, {})
