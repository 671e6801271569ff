"""The shipped default runs without Keras, by the graphs beside its members' weights, and finds what Keras found."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nucleus import load_model, read_image, shipped_data
from nucleus.evaluation.scores import average_precision
from nucleus.images.reading import read_labels
from nucleus.models.loading import resolve
from nucleus.models.onnx import ExportedModel
from nucleus.models.wrapper import Wrapper

GOLDEN = Path(__file__).parents[1] / "golden"
SHIPPED = ("nucleus_mask_rcnn", "nucleus_light")


@pytest.fixture(autouse=True)
def without_a_backend_named(monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setattr("nucleus.models.onnx._GPU_DEVICES", ())


@pytest.mark.parametrize("name", SHIPPED)
def test_the_graph_beside_shipped_weights_is_that_of_their_recipe(name, caplog):
    chosen = resolve(name)
    assert chosen.path.suffix == ".h5"
    assert chosen.fastest().path == chosen.path.with_suffix(".onnx"), "export it again: see the card of the weights"
    assert not caplog.records
    other = resolve(name, settings={"PRECISION": "mixed_bfloat16"})
    assert other.fastest().path == chosen.path


def test_the_shipped_default_finds_what_it_found_in_keras(caplog):
    model = load_model()
    assert all(isinstance(_inside(member), ExportedModel) for member in _inside(model).members.values())
    assert not caplog.records, "the weights are those that the fusion was fitted to"
    golden = min((GOLDEN / "fusion").glob("*.png"), key=lambda path: path.stat().st_size)
    image = read_image(next(shipped_data().glob(f"*/*/images/{golden.name}")))
    (found,) = model.predict(image)
    rows = pd.read_csv(GOLDEN / "fusion.csv")
    scores = rows.loc[rows["ImageId"] == golden.stem, "score"].to_numpy()
    assert average_precision(read_labels(golden), found.labels) > 0.99
    np.testing.assert_allclose(np.sort(found.scores), np.sort(scores), atol=1e-3)


def test_a_named_backend_is_taken_for_the_members(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    for name in SHIPPED:
        assert resolve(name).fastest().path.suffix == ".h5"


def _inside(model):
    while isinstance(model, Wrapper):
        model = model.model
    return model
