"""Three images of two modalities, and label images of two models for them."""

from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest

from nucleus.dataset import NucleusDataset
from nucleus.export import write_labels

MODALITIES = {"a": ("white", "black"), "b": ("purple", "white"), "c": ("white", "black")}


@pytest.fixture
def bench(tmp_path, blobs):
    """A data set in a folder, and the folders `good` and `bad` with predictions of every image."""
    rng = np.random.default_rng(0)
    rows = ["ImageId,foreground,background"]
    for name, kinds in MODALITIES.items():
        truth = blobs(rng, shape=(40, 48), count=6)
        sample = tmp_path / "stage1_train" / name
        (sample / "images").mkdir(parents=True)
        (sample / "masks").mkdir()
        image = np.repeat((truth > 0)[..., None], 3, axis=2).astype(np.uint8) * 180 + 20
        cv2.imwrite(str(sample / "images" / f"{name}.png"), image)
        for label in np.unique(truth[truth > 0]):
            cv2.imwrite(str(sample / "masks" / f"{label:03d}.png"), (truth == label).astype(np.uint8) * 255)
        worse = np.roll(truth, 3, axis=1)
        worse[worse == worse.max()] = 0
        write_labels(tmp_path / "good" / f"{name}.png", truth)
        write_labels(tmp_path / "bad" / "labels" / f"{name}.png", worse)
        rows.append(f"{name},{','.join(kinds)}")
    (tmp_path / "classes.csv").write_text("\n".join(rows) + "\n")
    return SimpleNamespace(path=tmp_path, good=tmp_path / "good", bad=tmp_path / "bad" / "labels")


@pytest.fixture
def dataset(bench):
    """The images of `bench`."""
    dataset = NucleusDataset(cache_dir=bench.path / "cache")
    dataset.load_nucleus(bench.path, "train")
    dataset.prepare()
    return dataset


@pytest.fixture
def scored_nuclei(bench):
    """Writes `nuclei.csv` beside the label images of `bad`, a score a nucleus; returns the table."""
    rows = []
    for name in MODALITIES:
        labels = cv2.imread(str(bench.bad / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        ids = np.unique(labels[labels > 0])
        rows += [{"ImageId": name, "label": label, "score": 1 / (2 + label)} for label in ids]
    table = pd.DataFrame(rows)
    table.to_csv(bench.bad.parent / "nuclei.csv", index=False)
    return table
