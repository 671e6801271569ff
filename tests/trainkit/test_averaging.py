"""Checkpoints and evaluations take the moving average of the weights; training goes on from the weights."""

import keras
import numpy as np
import pytest

from trainkit.averaging import averaged_weights
from trainkit.callbacks import EpochCheckpoint, PeriodicEvaluation
from trainkit.checkpoint import read_training_state, restore_training_state
from trainkit.hdf5 import load_weights
from trainkit.hdf5_layout import read_layers

pytestmark = pytest.mark.backend

MOMENTUM = 0.8
X = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
Y = X.sum(axis=1, keepdims=True)


def build(momentum=MOMENTUM):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False, name="dense")])
    average = {"use_ema": True, "ema_momentum": momentum} if momentum else {}
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9, **average), "mse")
    return model


def fit(model, epochs, callbacks, initial_epoch=0):
    return model.fit(
        X,
        Y,
        batch_size=4,
        epochs=epochs,
        initial_epoch=initial_epoch,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
    ).history["loss"]


class Record(keras.callbacks.Callback):
    """The kernel after every step."""

    def __init__(self):
        super().__init__()
        self.kernels = []

    def on_train_batch_end(self, batch, logs=None):
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()
        self.kernels.append(kernel(self.model))


def kernel(model):
    return keras.ops.convert_to_numpy(model.get_layer("dense").kernel).copy()


def test_checkpoint_has_the_average_of_all_steps_and_the_weights_in_its_state(tmp_path):
    record = Record()
    fit(build(), 2, [record, EpochCheckpoint(tmp_path / "run_{epoch:04d}.h5", seed=0, stage={})])
    # The definition, step by step; the first step's weights begin it.
    average = record.kernels[0]
    for weights in record.kernels[1:]:
        average = MOMENTUM * average + (1 - MOMENTUM) * weights
    path = tmp_path / "run_0002.h5"
    np.testing.assert_allclose(read_layers(path)["dense"]["kernel"], average, rtol=1e-5)
    ((_, stored),) = read_training_state(path).weights
    np.testing.assert_allclose(stored, record.kernels[-1], rtol=1e-6)
    assert np.abs(average - record.kernels[-1]).max() > 1e-3


def test_resumed_training_equals_the_uninterrupted_one(tmp_path):
    checkpoint = EpochCheckpoint(tmp_path / "run_{epoch:04d}.h5", seed=0, stage={})
    whole = fit(build(), 4, [])
    fit(build(), 2, [checkpoint])
    model = build()
    load_weights(model, tmp_path / "run_0002.h5", by_name=False)
    model.optimizer.build(model.trainable_variables)
    restore_training_state(model, model.optimizer, read_training_state(tmp_path / "run_0002.h5"))
    np.testing.assert_allclose(fit(model, 4, [], initial_epoch=2), whole[2:], rtol=1e-5)


def test_evaluation_sees_the_average_and_training_does_not(tmp_path):
    seen, record = [], Record()
    model = build()

    def evaluate():
        seen.append(kernel(model))
        return {"mAP": float(len(seen))}

    losses = fit(model, 2, [record, PeriodicEvaluation(evaluate, 1, tmp_path / "best.h5")])
    assert losses == pytest.approx(fit(build(), 2, []), rel=1e-5)
    np.testing.assert_allclose(read_layers(tmp_path / "best.h5")["dense"]["kernel"], seen[-1], rtol=1e-6)
    assert np.abs(seen[-1] - record.kernels[-1]).max() > 1e-3
    # At its end, training hands the average over.
    np.testing.assert_allclose(kernel(model), seen[-1], rtol=1e-6)


@pytest.mark.parametrize(("momentum", "epochs"), [(MOMENTUM, 0), (0.0, 1)])
def test_without_averages_the_weights_stay(momentum, epochs):
    model = build(momentum)
    model.optimizer.build(model.trainable_variables)
    if epochs:
        fit(model, epochs, [])
    before = kernel(model)
    with averaged_weights(model) as own:
        assert own == []
        np.testing.assert_array_equal(kernel(model), before)
