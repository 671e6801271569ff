"""The package as it is installed, outside a clone: what the README promises works with the installed files alone."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import nucleus

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the files that an installation has, built by setup.py, which needs no network.

    It is run beside links to the packages instead of in the clone: pyproject.toml, which says nothing about files, asks
    for a newer setuptools than an environment may have.
    """
    folder = tmp_path_factory.mktemp("installed")
    clone, target = folder / "clone", folder / "site" / "packages"
    clone.mkdir()
    for name in ("mrcnn", "unet", "trainkit", "samples", "weights", "setup.py", "requirements.txt"):
        (clone / name).symlink_to(ROOT / name)
    command = [sys.executable, "setup.py", "-q", "build_py", f"--build-lib={target}"]
    subprocess.run(command, cwd=clone, check=True, capture_output=True, text=True)
    return target


def run_outside(installed, folder, code):
    """Runs Python in a folder that is no clone, with the installed packages before any others; returns what it said."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout, result.stderr


def test_the_readmes_python_example_works_outside_a_clone_and_without_native_log_lines(installed, tmp_path):
    """It takes half a minute, since Keras is imported in a process of its own, and the shipped model is built."""
    (example,) = re.findall(r"^In Python:\n\n```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)
    images = nucleus.shipped_data().glob("stage1_train/*/images/*.png")
    shutil.copyfile(min(images, key=lambda path: path.stat().st_size), tmp_path / "cells.png")
    shown = "[nucleus.__file__, list(labels.shape), str(labels.dtype), int(labels.max()), len(scores)]"
    printed, logged = run_outside(installed, tmp_path, f"{example}\nimport json\nprint(json.dumps({shown}))")
    assert "port.cc" not in logged and "absl" not in logged
    file, shape, dtype, nuclei, scores = json.loads(printed.splitlines()[-1])
    assert Path(file).is_relative_to(installed), "the clone's package was imported instead"
    assert (shape, dtype) == (list(nucleus.read_image(tmp_path / "cells.png").shape[:2]), "int32")
    assert nuclei == scores > 0


def test_everything_that_is_read_at_run_time_is_installed(installed, tmp_path):
    """Data, templates and shipped weights, which setup.py lists by pattern."""
    code = (
        "import nucleus, json; from nucleus.models.weights import find_recipe, shipped_weights; "
        "from nucleus.models.registry import NETWORKS; "
        "from nucleus.experiments.publications import EXPERIMENTS; import nucleus.evaluation.report.page; "
        "print(json.dumps([str(shipped_weights(kind)) for kind in NETWORKS if find_recipe(shipped_weights(kind))] "
        "+ [len(list(nucleus.shipped_data().rglob('*.png'))), len(EXPERIMENTS)]))"
    )
    *weights, pictures, experiments = json.loads(run_outside(installed, tmp_path, code)[0].splitlines()[-1])
    assert weights
    for path in weights:
        assert Path(path).is_relative_to(installed)
    assert pictures == len(list((ROOT / "samples" / "nucleus" / "data" / "stage1_train").rglob("*.png")))
    assert experiments > 0


def test_the_hook_adds_less_than_a_millisecond_to_the_start_of_python(installed):
    """The least of several starts, which other work on the machine does not lengthen.

    Everything that Python does for it at the start is timed: the folder's `.pth` file is read, and its line runs.
    """
    hook = installed.parent / "hook"
    hook.mkdir()
    for name in ("keras_nucleus_imgaug.pth", "keras_nucleus_imgaug.py"):
        shutil.copy(installed / name, hook)
    code = (
        "import site, sys, time; begun = time.perf_counter(); site.addsitedir(sys.argv[1]); "
        "print(time.perf_counter() - begun, 'keras_nucleus_imgaug' in sys.modules)"
    )
    starts = [
        subprocess.run(
            [sys.executable, "-I", "-S", "-c", code, str(hook)], capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(9)
    ]
    assert all(imported == "True" for _, imported in starts)
    assert min(float(seconds) for seconds, _ in starts) < 0.001
