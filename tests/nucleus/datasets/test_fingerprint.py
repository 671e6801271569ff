"""Fingerprints tell images from others, and a training goes on with the same ones only."""

import shutil
from dataclasses import replace

import pytest

from nucleus.datasets.dataset import NucleusDataset
from nucleus.datasets.fingerprint import IMAGES_FILE, fingerprint
from nucleus.datasets.provenance import ProvenanceError, write_note
from nucleus.models.recipe import Recipe
from nucleus.training.resuming import train_or_resume


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
    assert "nucleus20240101T0000/images.json: missing, so the images" in caplog.text
    write_note(checkpoint.parent / IMAGES_FILE, dict.fromkeys(("train", "val"), fingerprint(here.image_info)))
    caplog.clear()
    assert go_on(there, there) == checkpoint and not caplog.text
    alter_a_byte(pair[1])
    changed = load(pair[1])
    for datasets, name in (((changed, here), "train"), ((here, changed), "val")):
        with pytest.raises(
            ProvenanceError, match=rf"{IMAGES_FILE}: made with other images.*\({name} was '2 images, \w+'"
        ):
            go_on(*datasets)
    other = replace(recipe, settings={**recipe.settings, "LEARNING_RATE": 0.5})
    with pytest.raises(
        ProvenanceError, match=r"other settings.*\(settings\.LEARNING_RATE was not given, is now 0\.5\)"
    ):
        train_or_resume(other, "none", None, tmp_path / "run", here, here)
