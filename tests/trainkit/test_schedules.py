"""The learning rate of every step."""

import math

import keras
import numpy as np
import pytest

from trainkit.schedules import WarmupCosine, warmup_cosine


def test_rate_rises_in_a_line_and_falls_by_half_a_cosine():
    rates = [warmup_cosine(step, total=14, warmup=4) for step in range(14)]
    np.testing.assert_allclose(rates[:4], [0.2, 0.4, 0.6, 0.8])
    np.testing.assert_allclose(rates[4:], [(1 + math.cos(math.pi * k / 10)) / 2 for k in range(10)])


@pytest.mark.parametrize("initial_epoch", [3, 4])
def test_callback_counts_the_steps_of_its_stage_also_when_resumed(initial_epoch):
    rates = []

    class Record(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            rates.append(float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)))

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1.0), "mse")
    x = np.zeros((5, 1), np.float32)
    schedule = WarmupCosine(0.5, total=10, warmup=2, steps_per_epoch=5, begin=3)
    history = model.fit(
        x, x, batch_size=1, epochs=5, initial_epoch=initial_epoch, verbose=0, callbacks=[schedule, Record()]
    ).history
    expected = [0.5 * warmup_cosine(step, 10, 2) for step in range(5 * (initial_epoch - 3), 10)]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)
    assert history["learning_rate"][-1] == pytest.approx(expected[-1])


def test_rise_longer_than_the_stage_is_refused():
    with pytest.raises(ValueError, match="10 steps of 10"):
        WarmupCosine(1.0, total=10, warmup=10, steps_per_epoch=5)
