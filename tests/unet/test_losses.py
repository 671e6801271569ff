"""The losses against NumPy, written out from their definitions, and their gradients at the limits."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import ops

from unet import losses

pytestmark = pytest.mark.backend

RNG = np.random.default_rng(0)
TRUTH = (RNG.random((2, 5, 6, 3)) < (0.5, 0.3, 0.1)).astype(np.float32)
PREDICTED = RNG.uniform(0.01, 0.99, TRUTH.shape).astype(np.float32)
WEIGHTS = RNG.uniform(1, 11, (*TRUTH.shape[:-1], 1)).astype(np.float32)
# By kind: a channel's loss, of targets, probabilities and pixel weights [B, H, W].
REFERENCES = {
    "bce": lambda t, p, w: np.mean(-t * np.log(p) - (1 - t) * np.log(1 - p)),
    "dice": lambda t, p, w: 1 - (2 * np.sum(t * p) + 1) / (np.sum(t) + np.sum(p) + 1),
    "bce-dice": lambda t, p, w: REFERENCES["bce"](t, p, w) + REFERENCES["dice"](t, p, w),
    "weighted-bce": lambda t, p, w: np.mean(w * (-t * np.log(p) - (1 - t) * np.log(1 - p))),
}


def arguments(kind, truth=TRUTH, predicted=PREDICTED):
    """The targets as the loss takes them, and the probabilities."""
    truth = np.concatenate([truth, WEIGHTS], axis=-1) if kind == "weighted-bce" else truth
    return ops.convert_to_tensor(truth), ops.convert_to_tensor(predicted)


def number(loss, kind, **changes):
    value = loss(*arguments(kind, **changes))
    assert keras.backend.standardize_dtype(value.dtype) == "float32" and tuple(value.shape) == ()
    return float(value)


def gradient(loss, kind, **changes):
    """The derivative of the loss by every probability, on the backend in use."""
    truth, predicted = arguments(kind, **changes)
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.grad(lambda p: loss(truth, p))(predicted))
    if keras.backend.backend() == "torch":
        predicted.requires_grad_(True)
        loss(truth, predicted).backward()
        return predicted.grad.numpy()
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(predicted)
        value = loss(truth, predicted)
    return tape.gradient(value, predicted).numpy()


@pytest.mark.parametrize("channel_weights", [None, (1, 1, 1), (3, 1, 0.5), (0, 0, 2)])
@pytest.mark.parametrize("kind", losses.LOSSES)
def test_definition(kind, channel_weights):
    channels = [
        REFERENCES[kind](TRUTH[..., c].astype(float), PREDICTED[..., c].astype(float), WEIGHTS[..., 0])
        for c in range(3)
    ]
    expected = np.average(channels, weights=channel_weights)
    assert number(losses.SegmentationLoss(kind, channel_weights), kind) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", losses.LOSSES)
def test_targets_may_be_uint8(kind):
    loss = losses.SegmentationLoss(kind)
    truth, predicted = arguments(kind)
    if kind != "weighted-bce":
        assert float(loss(ops.cast(truth, "uint8"), predicted)) == pytest.approx(float(loss(truth, predicted)))


@pytest.mark.parametrize("kind", losses.LOSSES)
def test_gradient_is_the_slope(kind):
    loss = losses.SegmentationLoss(kind, (1, 2, 1))
    found = gradient(loss, kind)
    for index in [(0, 0, 0, 0), (1, 2, 3, 1), (0, 4, 5, 2)]:
        step = np.zeros_like(PREDICTED)
        step[index] = 1e-3 * min(PREDICTED[index], 1 - PREDICTED[index])
        rise = number(loss, kind, predicted=PREDICTED + step) - number(loss, kind, predicted=PREDICTED - step)
        assert found[index] == pytest.approx(rise / (2 * step[index]), rel=0.2, abs=0.02)


@pytest.mark.parametrize("kind", losses.LOSSES)
@pytest.mark.parametrize("level", [0.0, 1e-30, 0.3, 1.0])
def test_crops_without_nuclei(kind, level):
    """Finite, smallest where nothing is predicted, and with a slope that leads there."""
    loss = losses.SegmentationLoss(kind)
    empty, predicted = np.zeros_like(TRUTH), np.full_like(PREDICTED, level)
    value = number(loss, kind, truth=empty, predicted=predicted)
    slope = gradient(loss, kind, truth=empty, predicted=predicted)
    assert np.isfinite(value) and np.isfinite(slope).all() and (slope >= 0).all()
    if level < 1e-6:
        assert value == pytest.approx(0, abs=1e-5)
    else:
        assert value > 0.1
    if level == 0.3:
        assert (slope > 0).all()


@pytest.mark.parametrize("kind", losses.LOSSES)
def test_certain_predictions(kind):
    """Probabilities of exactly 0 and 1 in float32: no loss where right, a finite one where wrong."""
    loss = losses.SegmentationLoss(kind)
    assert number(loss, kind, predicted=TRUTH) == pytest.approx(0, abs=1e-5)
    wrong = number(loss, kind, predicted=1 - TRUTH)
    assert np.isfinite(wrong) and wrong > 0.8
    assert np.isfinite(gradient(loss, kind, predicted=1 - TRUTH)).all()


def test_dice_is_over_the_batch():
    """A channel that is empty on one crop is judged together with the other crop."""
    truth, predicted = TRUTH.copy(), PREDICTED
    truth[1] = 0
    both = number(losses.soft_dice, "dice", truth=truth)
    expected = [REFERENCES["dice"](truth[..., c], predicted[..., c], None) for c in range(3)]
    assert both == pytest.approx(np.mean(expected), rel=1e-5)


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="compiling takes longer than all the other tests here")
def test_a_network_learns_with_it_and_brings_it_back(tmp_path):
    model = keras.Sequential([keras.Input((5, 6, 2)), keras.layers.Conv2D(3, 1, activation="sigmoid")])
    loss = losses.make_loss(SimpleNamespace(LOSS="weighted-bce", CHANNEL_WEIGHTS=(2, 1, 1)))
    model.compile(keras.optimizers.SGD(0.1), loss=loss)
    targets = np.concatenate([TRUTH, WEIGHTS], axis=-1)
    images = RNG.normal(size=(2, 5, 6, 2)).astype(np.float32)
    history = model.fit(images, targets, batch_size=2, epochs=2, verbose=0).history["loss"]
    assert history[1] < history[0]
    model.save(tmp_path / "model.keras")
    restored = keras.saving.load_model(tmp_path / "model.keras").loss
    assert (restored.kind, tuple(restored.channel_weights)) == ("weighted-bce", (2, 1, 1))


@pytest.mark.parametrize(
    ("kind", "channel_weights", "message"),
    [
        ("focal", None, "one of bce"),
        ("bce", (1, -1, 1), "0 or more"),
        ("bce", (0, 0, 0), "above 0"),
        ("bce", (1, float("nan"), 1), "above 0"),
    ],
)
def test_bad_settings(kind, channel_weights, message):
    with pytest.raises(ValueError, match=message):
        losses.SegmentationLoss(kind, channel_weights)


def test_weights_that_do_not_fit_the_channels():
    with pytest.raises(ValueError, match="each of 3 channels"):
        number(losses.SegmentationLoss("dice", (1, 2)), "dice")


def test_weighted_loss_without_weights():
    with pytest.raises(ValueError, match="pixels' weights behind them"):
        number(losses.SegmentationLoss("weighted-bce"), "bce")
