"""The recipe for several data sets from command to nuclei: from ImageNet weights, stopped, taken up, packed, used."""

import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from nucleus import cli, load_model, read_image
from trainkit.checkpoint import read_training_state
from trainkit.hdf5_layout import read_layers
from trainkit.imagenet import download_imagenet

SHIPPED = Path(__file__).parents[3] / "samples" / "nucleus" / "data"
SETTINGS = {
    "STRETCH": True,
    "AUGMENTATION": "microscopy",
    "IMAGE_SIZE": 32,
    "BATCH_SIZE": 2,
    "STEPS_PER_EPOCH": 1,
    "VALIDATION_STEPS": 1,
    "EVALUATE_EVERY": 2,
    "STAGES": "(('all',2,0.001),)",
    "WARMUP_STEPS": 1,
    "DATA_WORKERS": 0,
    "PRECISION": "float32",
}


@pytest.fixture
def sets(tmp_path):
    """Two sets of one shipped image each to train on, and one of the first to validate on."""
    names = pd.read_csv(SHIPPED / "classes.csv")["ImageId"].tolist()[:3]
    for folder, images in (("first", names[:2]), ("second", names[2:])):
        (tmp_path / folder / "stage1_train").mkdir(parents=True)
        for name in images:
            (tmp_path / folder / "stage1_train" / name).symlink_to(SHIPPED / "stage1_train" / name)
    (tmp_path / "validation.csv").write_text(f"set,stem\nfirst,{names[1]}\n")
    content = {
        "validation": "validation.csv",
        "sets": {name: {"path": name, "subset": "stage1_train", "modality": name} for name in ("first", "second")},
    }
    file = tmp_path / "both.sets.json"
    file.write_text(json.dumps(content))
    return file, names


def test_from_imagenet_weights_to_nuclei(sets, tmp_path, eager):
    file, names = sets
    logs, packed = tmp_path / "logs", tmp_path / "nucleus_packed.h5"
    train = ["train", "--model=unet", f"--dataset={file}", f"--logs={logs}"]
    settings = [text for name, value in SETTINGS.items() for text in ("--set", f"{name}={value}")]
    begin = ["--preset=efficientnet-lite0", "--weights=imagenet", "--epochs=1", *settings]
    assert cli.main([*train, *begin]) == 0
    (run,) = logs.iterdir()
    first = run / "unet_nucleus_0001.h5"
    # Two steps from the published weights, not from random ones.
    stem = read_layers(first)["stem_conv"]["kernel"]
    published = read_layers(download_imagenet("efficientnet-lite0"))["stem_conv"]["kernel"].astype(np.float32)
    assert 0 < np.abs(stem - published).max() < 0.01
    # --epochs=1 would bend the cosine of a run to its end; what was asked for then goes on.
    assert cli.main([*train, "--weights=last"]) == 0
    assert [path.name for path in logs.iterdir()] == [run.name]
    assert pd.read_csv(run / "training.csv")["epoch"].tolist() == [1, 2]
    last = run / "unet_nucleus_0002.h5"
    assert read_training_state(last).weights, "the weights beside their averages"

    assert cli.main(["pack", f"--weights={last}", f"--output={packed}", f"--logs={logs}"]) == 0
    with h5py.File(packed) as stored:
        assert "training_state" not in stored
    np.testing.assert_allclose(
        read_layers(packed)["stem_conv"]["kernel"], read_layers(last)["stem_conv"]["kernel"], atol=1e-3
    )
    image = SHIPPED / "stage1_train" / names[1] / "images" / f"{names[1]}.png"
    output = tmp_path / "out"
    # At the image's own size: two steps teach nothing about sizes.
    detect = ["detect", "--model=unet", f"--weights={packed}", f"--output={output}", str(image), "--scale=1"]
    assert cli.main(detect) == 0
    model = load_model(packed, settings={"SCALE": 1.0})
    assert model.config.STRETCH and model.config.ENCODER == "efficientnet-lite0"
    ((labels, _),) = model.predict([read_image(image)])
    assert labels.max() == len(pd.read_csv(output / "nuclei.csv"))
