"""The examples in the docstrings of all packages run, and show the results that they promise."""

import doctest
import importlib
from pathlib import Path

import pytest

PACKAGES = ("nucleus", "unet", "mrcnn", "trainkit")


def modules_with_examples():
    for package in PACKAGES:
        root = Path(importlib.import_module(package).__file__).parent
        for path in sorted(root.rglob("*.py")):
            if ">>> " in path.read_text(encoding="utf-8"):
                yield ".".join((package, *path.relative_to(root).with_suffix("").parts)).removesuffix(".__init__")


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_give_the_results_they_show(name):
    results = doctest.testmod(
        importlib.import_module(name), optionflags=doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
    )
    assert results.attempted and not results.failed, "the differences are printed above"
