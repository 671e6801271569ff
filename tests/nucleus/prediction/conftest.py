"""Images, and the folder of their results."""

import os

import pytest

import nucleus

from .detections import detect


def copy_images(folder):
    folder.mkdir()
    for path in sorted(nucleus.shipped_data().glob("stage1_train/*/images/*.png"), key=os.path.getsize)[:8]:
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture
def images(tmp_path):
    """A folder of eight shipped images."""
    return copy_images(tmp_path / "plate")


@pytest.fixture
def output(images):
    return images.with_name("plate_nuclei")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The results of an undisturbed run on the eight images, made in a folder of the same name."""
    folder = copy_images(tmp_path_factory.mktemp("whole") / "plate")
    assert detect(folder) == 0
    return folder.with_name("plate_nuclei")
