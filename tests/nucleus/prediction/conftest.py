"""Runs of `nucleus detect` over eight shipped images."""

import os

import pytest

import nucleus
from nucleus import cli
from nucleus.prediction.manifest import COMPLETE, read_manifest


def write_images(folder):
    """Writes eight shipped images into a new folder."""
    folder.mkdir()
    for path in sorted(nucleus.shipped_data().glob("stage1_train/*/images/*.png"), key=os.path.getsize)[:8]:
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture
def images(tmp_path):
    """A folder of eight shipped images."""
    return write_images(tmp_path / "plate")


@pytest.fixture
def output(images):
    """The folder of results beside that of the images."""
    return images.with_name("plate_nuclei")


@pytest.fixture(scope="session")
def detect():
    """Function that runs `nucleus detect`, with a classical preset unless its arguments name another one."""

    def run(*arguments):
        given = [str(argument) for argument in arguments]
        named = any(argument.startswith("--preset") for argument in given)
        return cli.main(["detect", *([] if named else ["--preset=otsu"]), *given])

    return run


@pytest.fixture(scope="session")
def content():
    """Function that returns all results by name, without what the program keeps for itself."""

    def read(folder):
        paths = (path for path in folder.rglob("*") if path.is_file() and ".nucleus" not in path.parts)
        named = {path.relative_to(folder).as_posix(): path for path in paths if path.name != "manifest.json"}
        return {name: path.read_bytes() for name, path in named.items()}

    return read


@pytest.fixture(scope="session")
def recorded():
    """Function that returns the files that the manifest of a folder names."""
    return lambda folder: sorted(read_manifest(folder).every_file)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory, detect):
    """The results of an undisturbed run on the eight images, made in a folder of the same name."""
    folder = write_images(tmp_path_factory.mktemp("whole") / "plate")
    assert detect(folder) == 0
    return folder.with_name("plate_nuclei")


@pytest.fixture
def require_equal(undisturbed, content, recorded):
    """Function that finds the undisturbed run's files in a folder, but for the images' folder in the table."""

    def check(output):
        found, expected = content(output), content(undisturbed)
        place = (str(output.parent).encode(), str(undisturbed.parent).encode())
        assert {name: data.replace(*place) for name, data in found.items()} == expected
        assert recorded(output) == sorted(found) and read_manifest(output).state == COMPLETE

    return check
