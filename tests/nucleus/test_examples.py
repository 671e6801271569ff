"""The examples in the docstrings of all packages run, and show the results that they promise."""

import doctest
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

# Functions and methods that users call most, beside those that train for minutes: each shows how, and is run below.
SHOWN = (
    "nucleus:load_model",
    "nucleus:NucleusModel.predict",
    "nucleus:predict",
    "nucleus:evaluate",
    "nucleus:measure",
    "nucleus:read_image",
    "nucleus:read_raw",
    "nucleus:read_ensemble",
    "nucleus.datasets.folds:make_folds",
    "nucleus:make_config",
    "nucleus:shipped_data",
    "nucleus:NucleusDataset.load_nucleus",
    "nucleus:rle_encode",
    "nucleus:rle_decode",
    "nucleus.prediction.detection:detect",
    "nucleus.evaluation.scores:average_precision",
    "mrcnn.model:MaskRCNN",
    "mrcnn.utils:compute_iou",
    "unet.model:UNet",
    "unet.postprocess:postprocess",
)
PACKAGES = ("nucleus", "unet", "mrcnn", "trainkit")


def modules_with_examples():
    for package in PACKAGES:
        root = Path(importlib.import_module(package).__file__).parent
        for path in sorted(root.rglob("*.py")):
            if ">>> " in path.read_text(encoding="utf-8"):
                yield ".".join((package, *path.relative_to(root).with_suffix("").parts)).removesuffix(".__init__")


@pytest.mark.parametrize("name", SHOWN)
def test_what_users_call_most_has_an_example(name):
    assert ">>> " in (inspect.getdoc(pkgutil.resolve_name(name)) or "")


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_give_the_results_they_show(name):
    results = doctest.testmod(
        importlib.import_module(name), optionflags=doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
    )
    assert results.attempted and not results.failed, "the differences are printed above"
