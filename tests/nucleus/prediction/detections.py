"""Runs of `nucleus detect`, and what they leave in a folder."""

from nucleus import cli
from nucleus.prediction.manifest import COMPLETE, read_manifest

CLASSICAL = "--preset=otsu"


def detect(*arguments):
    """Runs `nucleus detect`, with a classical preset unless the arguments name another one."""
    given = [str(argument) for argument in arguments]
    named = any(argument.startswith("--preset") for argument in given)
    return cli.main(["detect", *([] if named else [CLASSICAL]), *given])


def content(folder):
    """All results by name, without what the program keeps for itself."""
    paths = (path for path in folder.rglob("*") if path.is_file() and ".nucleus" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths if path.name != "manifest.json"}


def recorded(folder):
    return sorted(read_manifest(folder).every_file)


def require_equal(output, undisturbed):
    """The same files, but for the images' folder in the table."""
    found, expected = content(output), content(undisturbed)
    place = (str(output.parent).encode(), str(undisturbed.parent).encode())
    assert {name: data.replace(*place) for name, data in found.items()} == expected
    assert recorded(output) == sorted(found) and read_manifest(output).state == COMPLETE
