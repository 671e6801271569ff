"""Logs and evaluations over interrupted trainings."""

import csv
import importlib.util
import json
import logging
import math

import keras
import numpy as np
import pytest

from trainkit.callbacks import EpochCheckpoint, PeriodicEvaluation, ResumableCSVLogger, tensorboard_callback
from trainkit.hdf5_layout import read_layers

pytestmark = pytest.mark.backend


def fit(callbacks, epochs, initial_epoch=0):
    """Trains one weight; returns the model and Keras's own record of the run."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, name="dense")])
    model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
    x = np.ones((4, 1), np.float32)
    history = model.fit(x, x, epochs=epochs, initial_epoch=initial_epoch, callbacks=callbacks, verbose=0)
    return model, history


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def evaluation(path, values, every=1, **options):
    """A PeriodicEvaluation that gives the values one after another."""
    values = iter(values)
    return PeriodicEvaluation(lambda: {"mAP": next(values), "AP50": 0.5}, every, path, **options)


def test_the_log_has_what_keras_records(tmp_path):
    _, history = fit([ResumableCSVLogger(tmp_path / "log.csv")], epochs=3)
    assert [row["epoch"] for row in rows(tmp_path / "log.csv")] == ["1", "2", "3"]
    assert [float(row["loss"]) for row in rows(tmp_path / "log.csv")] == history.history["loss"]


def test_going_on_from_an_earlier_epoch_replaces_the_rows_after_it(tmp_path):
    path = tmp_path / "log.csv"
    fit([ResumableCSVLogger(path)], epochs=4)
    before = rows(path)
    logger = ResumableCSVLogger(path)
    _, history = fit([logger], epochs=3, initial_epoch=2)
    assert rows(path)[:2] == before[:2]
    assert [row["epoch"] for row in rows(path)] == ["1", "2", "3"]
    assert float(rows(path)[2]["loss"]) == history.history["loss"][0]
    fit([logger], epochs=5, initial_epoch=3)
    assert [row["epoch"] for row in rows(path)] == ["1", "2", "3", "4", "5"]


def test_columns_grow_with_what_is_logged(tmp_path):
    path = tmp_path / "log.csv"
    fit([ResumableCSVLogger(path)], epochs=1)
    fit([evaluation(tmp_path / "b.h5", [0.25]), ResumableCSVLogger(path)], epochs=2, initial_epoch=1)
    assert [row["val_mAP"] for row in rows(path)] == ["", "0.25"]
    assert list(rows(path)[0]) == ["epoch", "loss", "val_mAP", "val_AP50"]


def test_a_log_that_is_none_is_named_and_kept(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("name,size\nnucleus,3\n")
    with pytest.raises(ValueError, match=r"log\.csv: not a training log"):
        fit([ResumableCSVLogger(path)], epochs=1)
    assert path.read_text() == "name,size\nnucleus,3\n"


def test_a_template_without_an_epoch_is_refused(tmp_path):
    with pytest.raises(ValueError, match="needs a field for the epoch"):
        EpochCheckpoint(tmp_path / "model.h5", seed=0, stage={})


def test_a_folder_with_braces_is_only_a_folder(tmp_path):
    fit([EpochCheckpoint(tmp_path / "{run}" / "a_{epoch:04d}.h5", seed=0, stage={})], epochs=2)
    assert sorted(path.name for path in (tmp_path / "{run}").iterdir()) == ["a_0001.h5", "a_0002.h5"]


def test_evaluation_runs_every_few_epochs_and_after_the_last(tmp_path):
    _, history = fit(
        [evaluation(tmp_path / "best.h5", [0.2, 0.4, 0.6], every=2), ResumableCSVLogger(tmp_path / "log.csv")],
        epochs=5,
    )
    assert [row["val_mAP"] for row in rows(tmp_path / "log.csv")] == ["", "0.2", "", "0.4", "0.6"]
    assert history.history["val_mAP"] == [0.2, 0.4, 0.6]


@pytest.mark.parametrize(("values", "best_epoch"), [([0.1, 0.5, 0.3], 2), ([math.nan, 0.1, math.nan], 2)])
def test_the_best_epochs_weights_are_kept(tmp_path, values, best_epoch):
    seen = []

    class Record(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(float(np.array(self.model.get_weights()[0])[0, 0]))

    fit([evaluation(tmp_path / "best.h5", values), Record()], epochs=3)
    assert float(read_layers(tmp_path / "best.h5")["dense"]["kernel"][0, 0]) == seen[best_epoch - 1]
    assert json.loads((tmp_path / "best.json").read_text()) == {
        "monitor": "mAP",
        "mode": "max",
        "value": values[best_epoch - 1],
        "epoch": best_epoch,
    }


def test_the_best_is_remembered_by_the_run_that_goes_on(tmp_path):
    best = tmp_path / "best.h5"
    fit([evaluation(best, [0.5])], epochs=1)
    kept = best.read_bytes()
    fit([evaluation(best, [0.4])], epochs=2, initial_epoch=1)
    assert best.read_bytes() == kept
    fit([evaluation(best, [0.6])], epochs=3, initial_epoch=2)
    assert best.read_bytes() != kept
    assert json.loads((tmp_path / "best.json").read_text())["epoch"] == 3


def test_a_record_for_another_result_or_without_its_weights_does_not_count(tmp_path):
    best = tmp_path / "best.h5"
    fit([evaluation(best, [0.9])], epochs=1)
    fit([evaluation(best, [0.1], monitor="AP50")], epochs=1)
    assert json.loads((tmp_path / "best.json").read_text())["monitor"] == "AP50"
    best.unlink()
    fit([evaluation(best, [0.1], monitor="AP50")], epochs=1)
    assert best.exists()


def test_a_damaged_record_is_named(tmp_path):
    (tmp_path / "best.h5").write_bytes(b"")
    (tmp_path / "best.json").write_text("{")
    with pytest.raises(ValueError, match=r"best\.json: not a record of the best epoch"):
        fit([evaluation(tmp_path / "best.h5", [0.1])], epochs=1)


def test_a_result_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"no result 'F1'. Received: \['AP50', 'mAP'\]"):
        fit([evaluation(tmp_path / "best.h5", [0.1], monitor="F1")], epochs=1)


def test_evaluations_may_begin_at_an_epoch_of_their_own(tmp_path):
    """Every 10 epochs from the 5th: 5, 15, 25, and the last one."""
    logger = ResumableCSVLogger(tmp_path / "log.csv")
    fit([evaluation(tmp_path / "b.h5", [0.1] * 4, every=10, first=5), logger], epochs=27)
    assert [row["epoch"] for row in rows(tmp_path / "log.csv") if row["val_mAP"]] == ["5", "15", "25", "27"]


@pytest.mark.parametrize("options", [{"every": 0}, {"every": 1, "first": 0}])
def test_senseless_settings_are_refused(tmp_path, options):
    with pytest.raises(ValueError, match="Received"):
        PeriodicEvaluation(dict, best_path=tmp_path / "best.h5", **options)


def test_a_twin_that_shares_layers_sees_the_epochs_weights(tmp_path):
    """Evaluation while training predicts with another model on the same layers, on every backend."""
    inputs = keras.Input((1,))
    dense = keras.layers.Dense(1, use_bias=False, name="dense")
    model = keras.Model(inputs, dense(inputs))
    twin = keras.Model(inputs, dense(inputs) * 2)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    ones = np.ones((4, 1), np.float32)
    predicted, weights = [], []

    def evaluate():
        predicted.append(float(twin.predict(ones, verbose=0)[0, 0]))
        weights.append(float(np.array(model.get_weights()[0])[0, 0]))
        return {"mAP": predicted[-1]}

    model.fit(ones, ones, epochs=3, verbose=0, callbacks=[PeriodicEvaluation(evaluate, 1, tmp_path / "b.h5")])
    assert len(set(weights)) == 3
    np.testing.assert_allclose(predicted, 2 * np.array(weights), rtol=1e-6)


@pytest.mark.parametrize("absent", ["tensorflow", "tensorboard"])
def test_without_tensorboard_there_is_a_warning_and_no_callback(monkeypatch, caplog, absent):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == absent else find_spec(name))
    with caplog.at_level(logging.WARNING, "trainkit"):
        assert tensorboard_callback("logs") is None
    assert absent in caplog.text


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("tensorflow", "tensorboard")),
    reason="TensorFlow or TensorBoard is not installed",
)
def test_events_are_written_for_tensorboard(tmp_path):
    fit([evaluation(tmp_path / "best.h5", [0.123]), tensorboard_callback(tmp_path / "logs")], epochs=1)
    events = b"".join(path.read_bytes() for path in (tmp_path / "logs").rglob("events*"))
    assert b"epoch_loss" in events
    assert b"epoch_mAP" in events
