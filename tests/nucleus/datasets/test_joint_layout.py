"""Several data sets read as one: which images are in which part, what they are called, and what is refused."""

import json

import cv2
import numpy as np
import pytest

from nucleus.datasets.dataset import DatasetError, NucleusDataset
from nucleus.datasets.layouts import LAYOUTS, find_layout, read_samples
from unet.config import UNetConfig
from unet.data import TrainingBatches

LABELS = np.zeros((32, 32), np.uint16)
LABELS[4:14, 4:14] = 1


def write_set(root, names, classes=None):
    for folder, image in (("images", np.full((32, 32, 3), 90, np.uint8)), ("labels", LABELS)):
        (root / folder).mkdir(parents=True)
        for name in names:
            cv2.imwrite(str(root / folder / f"{name}.png"), image)
    if classes:
        (root / "classes.csv").write_text("ImageId,modality\n" + "".join(f"{k},{v}\n" for k, v in classes.items()))


@pytest.fixture
def file(tmp_path):
    write_set(tmp_path / "cells", ["a", "b", "c"], {"a": "fluorescence", "c": "brightfield"})
    write_set(tmp_path / "tissue", ["a", "d"])
    (tmp_path / "held.csv").write_text("set,stem,part\ncells,b,image\ntissue,a,image\n")
    return write(tmp_path)


def write(folder, **changes):
    content = {
        "validation": "held.csv",
        "sets": {"cells": {"path": "cells"}, "tissue": {"path": "tissue", "modality": "h&e", "prefix": "t-"}},
        **changes,
    }
    path = folder / "both.sets.json"
    path.write_text(json.dumps(content))
    return path


def ids(file, subset):
    return [sample.id for sample in read_samples(file, subset)]


def test_parts(file):
    assert find_layout(file) is LAYOUTS["joint"]
    assert ids(file, "all") == ["a", "b", "c", "t-a", "t-d"]
    assert ids(file, "train") == ["a", "c", "t-d"]
    assert ids(file, "val") == ["b", "t-a"]
    assert ids(file, "tissue") == ["t-a", "t-d"]
    assert ids(file, "tissue-train") == ["t-d"]
    assert ids(file, "cells-val") == ["b"]


def test_without_a_table_a_fifth_is_set_aside(tmp_path, file):
    file = write(tmp_path, validation=None)
    train, val = ids(file, "train"), ids(file, "val")
    assert len(val) == 1 and sorted(train + val) == sorted(ids(file, "all"))


def test_samples_know_their_set_and_modality(file):
    dataset = NucleusDataset()
    dataset.load_nucleus(file, "all")
    reported = [(info["collection"], info["id"], info["modality"]) for info in dataset.image_info]
    assert reported == [
        ("cells", "a", "fluorescence"),
        ("cells", "b", "unknown"),
        ("cells", "c", "brightfield"),
        ("tissue", "t-a", "h&e"),
        ("tissue", "t-d", "h&e"),
    ]
    assert all(dataset.load_labels(index)[0].max() == 1 for index in range(5))


def test_training_draws_each_set_and_modality_by_a_power_of_its_size(tmp_path):
    write_set(tmp_path / "cells", [f"c{number}" for number in range(9)])
    write_set(tmp_path / "tissue", ["t"])
    dataset = NucleusDataset()
    dataset.load_nucleus(write(tmp_path, validation=None), "all")
    dataset.prepare()
    for power, share in ((0.5, 0.25), (0.0, 0.5), (1.0, 0.1)):
        config = UNetConfig.from_preset("small", {"BALANCE_POWER": power, "BATCH_SIZE": 10, "STEPS_PER_EPOCH": 100})
        batches = TrainingBatches(dataset, config)
        drawn = [dataset.image_info[batches.item(0, index)]["collection"] for index in range(1000)]
        assert np.mean([name == "tissue" for name in drawn]) == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sets": {}}, "expected"),
        ({"sets": {"val": {"path": "cells"}}}, "no set can be called 'val'"),
        ({"sets": {"cells": {"subset": "all"}}}, "path is needed"),
        ({"sets": {"cells": {"path": 3}}}, "as text in 'cells'"),
        ({"sets": {"cells": {"path": "cells", "prefix": "../"}}}, "the prefix of 'cells' may have no slash"),
        ({"extra": 1}, "at most"),
        ({"validation": "absent.csv"}, r"absent\.csv: there is no such file"),
        ({"sets": {"cells": {"path": "cells"}}}, r"held\.csv, line 3: there is no set 'tissue'"),
        ({"sets": {"cells": {"path": "nowhere"}, "tissue": {"path": "tissue"}}}, "nowhere: there is no such"),
        ({"sets": {"cells": {"path": "cells"}, "tissue": {"path": "tissue"}}}, "its id 'a' is also that of"),
    ],
)
def test_what_cannot_be_used_is_named(file, changes, message):
    with pytest.raises(DatasetError, match=message):
        read_samples(write(file.parent, **changes), "all")


def test_a_validation_image_that_is_not_there_is_named(file):
    (file.parent / "held.csv").write_text("set,stem\ncells,z\n")
    with pytest.raises(DatasetError, match="the validation image z is not in cells"):
        read_samples(file, "train")
