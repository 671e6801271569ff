"""Three images of two modalities, and label images of two models for them."""

from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest

from nucleus.datasets.dataset import NucleusDataset
from nucleus.evaluation.evaluation import evaluate_fully
from nucleus.evaluation.report import figures
from nucleus.evaluation.report.writing import write_report
from nucleus.images.writing import write_labels
from nucleus.prediction.folders import PredictionFolder

MODALITIES = {"a": ("white", "black"), "b": ("purple", "white"), "c": ("white", "black")}


def make_bench(path, blobs):
    """Writes a data set, and the folders `good` and `bad` with predictions of every image."""
    rng = np.random.default_rng(0)
    rows = ["ImageId,foreground,background"]
    for name, kinds in MODALITIES.items():
        truth = blobs(rng, shape=(40, 48), count=6)
        sample = path / "stage1_train" / name
        (sample / "images").mkdir(parents=True)
        (sample / "masks").mkdir()
        image = np.repeat((truth > 0)[..., None], 3, axis=2).astype(np.uint8) * 180 + 20
        cv2.imwrite(str(sample / "images" / f"{name}.png"), image)
        for label in np.unique(truth[truth > 0]):
            cv2.imwrite(str(sample / "masks" / f"{label:03d}.png"), (truth == label).astype(np.uint8) * 255)
        worse = np.roll(truth, 3, axis=1)
        worse[worse == worse.max()] = 0
        write_labels(path / "good" / f"{name}.png", truth)
        write_labels(path / "bad" / "labels" / f"{name}.png", worse)
        rows.append(f"{name},{','.join(kinds)}")
    (path / "classes.csv").write_text("\n".join(rows) + "\n")
    return SimpleNamespace(path=path, good=path / "good", bad=path / "bad" / "labels")


def load(bench):
    """Returns the images of a bench."""
    dataset = NucleusDataset(cache_dir=bench.path / "cache")
    dataset.load_nucleus(bench.path, "train")
    dataset.prepare()
    return dataset


def write_scores(bench):
    """Writes `nuclei.csv` beside the label images of `bad`, a score a nucleus."""
    rows = []
    for name in MODALITIES:
        labels = cv2.imread(str(bench.bad / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        ids = np.unique(labels[labels > 0])
        rows += [{"ImageId": name, "label": label, "score": 1 / (2 + label)} for label in ids]
    pd.DataFrame(rows).to_csv(bench.bad.parent / "nuclei.csv", index=False)


@pytest.fixture
def bench(tmp_path, blobs):
    """A data set in a folder, and the folders `good` and `bad` with predictions of every image."""
    return make_bench(tmp_path, blobs)


@pytest.fixture
def dataset(bench):
    """The images of `bench`."""
    return load(bench)


@pytest.fixture
def without_plots(monkeypatch):
    """Leaves out what takes most of a report's time, where it is not what a test is about."""
    pixel = cv2.imencode(".png", np.zeros((1, 1), np.uint8))[1].tobytes()
    for name in ("ap_curve", "ap_curves_by_modality", "sensitivity", "iou_histograms"):
        monkeypatch.setattr(figures, name, lambda evaluations: pixel)


@pytest.fixture(scope="module")
def compared(tmp_path_factory, blobs):
    """A report on `good` and `bad`, the latter with scores, that no test changes."""
    bench = make_bench(tmp_path_factory.mktemp("bench"), blobs)
    write_scores(bench)
    dataset, sources = load(bench), [PredictionFolder(bench.good), PredictionFolder(bench.bad)]
    evaluations = [evaluate_fully(source, dataset, progress=False) for source in sources]
    page = write_report(bench.path / "report", dataset, evaluations, sources, description="train")
    return SimpleNamespace(page=page, dataset=dataset, sources=sources, evaluations=evaluations)
