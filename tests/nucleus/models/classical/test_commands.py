"""The commands with classical methods: no weights, no training, no Keras."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import pandas as pd
import pytest

from nucleus import cli
from nucleus.datasets.dataset import NucleusDataset, shipped_data
from nucleus.images.reading import read_labels
from nucleus.models.classical.config import ClassicalConfig
from nucleus.models.classical.model import ClassicalModel
from nucleus.models.classical.presets import PRESETS
from nucleus.models.classical.tuning import default_grid
from trainkit.settings import SettingsError

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def two_images(tmp_path_factory):
    """A data set of two shipped images, bright nuclei and dark ones."""
    root = tmp_path_factory.mktemp("two")
    (root / "stage1_train").mkdir()
    for prefix in ("abbfff07", "2c61fdcb"):
        (sample,) = (shipped_data() / "stage1_train").glob(f"{prefix}*")
        (root / "stage1_train" / sample.name).symlink_to(sample)
    return root


def run(command, *arguments):
    return cli.main([command, *(str(argument) for argument in arguments)])


def test_detect_without_keras(disks, tmp_path):
    image, truth = disks()
    cv2.imwrite(str(tmp_path / "cells.png"), image)
    code = (
        "import sys; from nucleus import cli; status = cli.main(sys.argv[1:]);"
        "assert 'keras' not in sys.modules and 'tensorflow' not in sys.modules; sys.exit(status)"
    )
    arguments = ["detect", "--preset=watershed", str(tmp_path / "cells.png"), f"--output={tmp_path / 'out'}"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "samples")])}
    done = subprocess.run([sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert read_labels(tmp_path / "out" / "labels" / "cells.png").max() == truth.max()
    assert len(pd.read_csv(tmp_path / "out" / "nuclei.csv")) == truth.max()


def test_a_saved_method_is_run_by_its_file(disks, tmp_path):
    image, truth = disks()
    cv2.imwrite(str(tmp_path / "cells.png"), image)
    for level, expected in ((0.5, truth.max()), (1000.0, 0)):
        ClassicalModel(preset="watershed", settings={"LEVEL": level}).save(tmp_path / "saved.json")
        output = tmp_path / f"level{level}"
        arguments = [tmp_path / "cells.png", f"--weights={tmp_path / 'saved.json'}", f"--output={output}"]
        assert run("detect", *arguments) == 0
        assert read_labels(output / "labels" / "cells.png").max() == expected


@pytest.mark.parametrize("preset", PRESETS)
def test_evaluate(two_images, tmp_path, preset):
    arguments = ("--model=classical", f"--preset={preset}", f"--dataset={two_images}", "--subset=stage1_train")
    assert run("evaluate", *arguments, "--output", tmp_path) == 0
    assert json.loads((tmp_path / "summary.json").read_text())["all"]["IoU"] > 0.5


def test_tune_finds_better_settings_and_prints_them(two_images, tmp_path, capsys):
    tries = ("--try", "LEVEL=0.2,0.5,0.9", "--try", "SEPARATION=components,watershed")
    start = ("--set", "LEVEL=0.9", "--set", "POLARITY=auto")
    assert run("tune", "--preset=otsu", f"--dataset={two_images}", "--subset=stage1_train", *tries, *start,
               "--search=grid", "--output", tmp_path) == 0  # fmt: skip
    table = pd.read_csv(tmp_path / "tuning.csv")
    assert len(table) == 6 and table["score"].is_monotonic_decreasing
    assert table["LEVEL"][0] < 0.9
    assert f"--set LEVEL={table['LEVEL'][0]}" in capsys.readouterr().out


def test_tune_checks_the_grid_before_it_begins(two_images):
    dataset = NucleusDataset()
    dataset.load_nucleus(two_images, "stage1_train")
    dataset.prepare()
    for grid, message in (({"NECK": (0.9, 2.0)}, "NECK"), ({"COLOUR": ("red",)}, "COLOUR"), ({"NECK": ()}, "NECK")):
        with pytest.raises(SettingsError, match=message):
            ClassicalModel().tune(dataset, grid, progress=False)
    for preset in PRESETS.values():
        config = ClassicalConfig().update(preset.settings)
        for name, choices in default_grid(config).items():
            for choice in choices:
                ClassicalConfig().update({**preset.settings, name: choice})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "--model=classical"), "classical has no weights to train"),
        (("train", "--preset=otsu", "--weights=none"), "otsu"),
        (("search", "--model=classical"), "classical has no weights to train"),
        (("pack", "--model=classical", "--weights=last", "--output=x.h5"), "classical has no weights"),
    ],
)
def test_what_needs_weights_refuses(arguments, message, capsys):
    with pytest.raises(SystemExit) as error:
        run(*arguments)
    assert error.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [("--preset=otsu", "--weights=w.h5"), ("--model=classical", "--weights=last")])
def test_weights_are_refused(arguments, two_images, capsys):
    assert run("evaluate", *arguments, f"--dataset={two_images}", "--subset=stage1_train") == 1
    assert f"classical has no weights. Received: {arguments[1].partition('=')[2]}" in capsys.readouterr().err


def test_a_setting_of_another_model_is_refused(two_images, capsys):
    assert run("evaluate", "--model=classical", f"--dataset={two_images}", "--set=AUGMENTATION=none") == 1
    assert "AUGMENTATION" in capsys.readouterr().err
