"""Training a tiny U-Net: stages, rates, what is frozen, what is written, going on after a stop."""

import csv
import os
from pathlib import Path

import keras
import numpy as np
import pytest

from trainkit.checkpoint import synchronise
from trainkit.fitting import TrainingDivergedError, set_trainable
from trainkit.imgaug_compat import iaa
from trainkit.schedules import warmup_cosine
from trainkit.stages import Stage, lay_out_stages
from unet.architecture import LAYER_REGEX, encoder_layer_names
from unet.model import UNet


def weights_of(model):
    """Weights by layer, for comparing."""
    synchronise(model.keras_model)
    return {layer.name: layer.get_weights() for layer in model.keras_model.layers if layer.weights}


def changed_layers(before, after):
    pairs = ((name, zip(before[name], after[name], strict=True)) for name in before)
    return {name for name, weights in pairs if any((ours != theirs).any() for ours, theirs in weights)}


def read_log(model):
    with open(Path(model.log_dir) / "training.csv", newline="") as file:
        return list(csv.DictReader(file))


def assert_same_weights(ours, theirs):
    ours, theirs = weights_of(ours), weights_of(theirs)
    for name, weights in theirs.items():
        for one, other in zip(ours[name], weights, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5, err_msg=name)


def test_stages_follow_each_other_and_can_be_cut_or_prolonged():
    stages = (("decoder", 3, 0.01), ("all", 2))
    both = [Stage("decoder", 3, 0.01, 0), Stage("all", 5, 0.002, 3)]
    assert lay_out_stages(stages, 0.002) == both
    assert lay_out_stages(stages, 0.002, 2) == [Stage("decoder", 2, 0.01, 0)]
    assert lay_out_stages(stages, 0.002, 3) == both[:1]
    assert lay_out_stages(stages, 0.002, 9) == [both[0], both[1]._replace(until=9)]


def test_the_rate_loses_its_share_from_the_start_of_each_stage():
    stage = Stage("all", 20, 0.1, begin=5)
    rates = [stage.decayed_rate(epoch, 0.25, 3) for epoch in range(5, 13)]
    np.testing.assert_allclose(rates, 0.1 * np.array([1, 1, 1, 0.75, 0.75, 0.75, 0.5625, 0.5625]))
    assert stage.decayed_rate(19, 0.25, 0) == 0.1


@pytest.mark.backend
def test_stages_train_their_layers_at_their_rates_and_leave_their_files(tiny_config, discs, tmp_path, eager):
    config = tiny_config(STAGES=(("decoder", 2, 0.01), ("all", 1, 0.002)), LEARNING_RATE_DECAY=0.5, DECAY_EPOCHS=1)
    model = UNet(config, tmp_path)
    before = weights_of(model)
    after_first = {}

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                after_first.update(weights_of(model))

    history = model.train(discs(), discs(), custom_callbacks=[Look()])
    encoder = set(encoder_layer_names(model.keras_model))
    assert changed_layers(before, after_first) == before.keys() - encoder, "the frozen encoder keeps its statistics too"
    assert changed_layers(after_first, weights_of(model)) == before.keys()

    rows = read_log(model)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    np.testing.assert_allclose([float(row["learning_rate"]) for row in rows], [0.01, 0.005, 0.002], rtol=1e-6)
    names = ("loss", "iou_mask", "iou_borderless", "iou_touching")
    for name in (*names, *(f"val_{name}" for name in names)):
        np.testing.assert_allclose([float(row[name]) for row in rows], history[name], rtol=1e-4)
        assert np.isfinite(history[name]).all()
    folder = Path(model.log_dir)
    assert folder.parent == tmp_path and folder.name.startswith("unet2")
    assert sorted(path.name for path in folder.glob("*.h5")) == [f"unet_unet_000{epoch}.h5" for epoch in (1, 2, 3)]
    assert list(folder.glob("**/events.out.tfevents.*"))
    assert model.epoch == 3 and model.find_last() == str(folder / "unet_unet_0003.h5")
    assert model.train(discs(), discs()) == {}, "nothing is left to do"


def test_the_loss_falls_and_discs_are_found(tiny_config, discs, tmp_path):
    """Compiled, unlike the other tests: what users run."""
    config = tiny_config(STEPS_PER_EPOCH=30, STAGES=(("all", 2, 0.01),), DATA_WORKERS=1, BATCH_NORM=False)
    model = UNet(config, tmp_path)
    history = model.train(discs(8), discs(4), augmentation=iaa.Fliplr(0.5))
    assert history["loss"][1] < 0.7 * history["loss"][0]
    assert history["val_iou_mask"][1] > 0.8
    truth, _ = discs(4).load_labels(2)
    (probabilities,) = model.predict([discs(4).load_image(2)])
    found = probabilities[..., 0] > 0.5
    assert (found & (truth > 0)).sum() > 0.8 * (found | (truth > 0)).sum()


STAGES = (("decoder", 1, 0.01), ("all", 2, 0.01))


@pytest.fixture(scope="module")
def uninterrupted(tiny_config, discs, tmp_path_factory):
    """Three epochs in two stages with dropout and augmentation, never stopped; with the log of its epochs."""
    eager = keras.backend.backend() == "tensorflow"
    if eager:
        import tensorflow as tf

        tf.config.run_functions_eagerly(True)
    model = UNet(tiny_config(STAGES=STAGES, DROPOUT=0.3, DATA_WORKERS=2), tmp_path_factory.mktemp("whole"))
    model.train(discs(), discs(), augmentation=AUGMENTATION)
    if eager:
        tf.config.run_functions_eagerly(False)
    return model


AUGMENTATION = iaa.Sequential([iaa.Fliplr(0.5), iaa.Add((-20, 20))])


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("killed_in_epoch", [2, 3])
def test_killed_and_resumed_equals_uninterrupted(
    uninterrupted, tiny_config, discs, tmp_path, eager, monkeypatch, killed_in_epoch
):
    config = tiny_config(STAGES=STAGES, DROPOUT=0.3, DATA_WORKERS=2)
    replace = os.replace

    def replace_or_die(source, target):
        if Path(target).name == f"unet_unet_000{killed_in_epoch}.h5":
            raise Killed
        replace(source, target)

    monkeypatch.setattr(os, "replace", replace_or_die)
    with pytest.raises(Killed):
        UNet(config, tmp_path).train(discs(), discs(), augmentation=AUGMENTATION)
    monkeypatch.setattr(os, "replace", replace)

    resumed = UNet(tiny_config(STAGES=STAGES, DROPOUT=0.3, DATA_WORKERS=0, SEED=0), tmp_path)
    keras.utils.set_random_seed(99)
    resumed.load_weights(resumed.find_last())
    assert resumed.epoch == killed_in_epoch - 1
    resumed.train(discs(), discs(), augmentation=AUGMENTATION)
    assert_same_weights(resumed, uninterrupted)
    assert [row["epoch"] for row in read_log(resumed)] == ["1", "2", "3"]
    for ours, theirs in zip(read_log(resumed), read_log(uninterrupted), strict=True):
        for name in ("loss", "val_loss", "learning_rate"):
            assert float(ours[name]) == pytest.approx(float(theirs[name]), rel=1e-4), name


@pytest.mark.parametrize(
    "settings",
    [
        {"OPTIMIZER": "SGD", "GRADIENT_CLIP_NORM": 1.0, "LOSS": "bce", "CHANNEL_WEIGHTS": (1, 0, 2)},
        {"LOSS": "weighted-bce", "TARGETS": "mask-border", "VALIDATION_STEPS": 0, "IMAGE_MODE": "resize"},
        {"LOSS": "dice", "TARGETS": "mask", "POSTPROCESS": "components", "BATCH_NORM": False, "IMAGE_CHANNEL_COUNT": 1},
        {"PRECISION": "mixed_bfloat16", "DROPOUT": 0.2},
        {"PRECISION": "mixed_float16"},
    ],
    ids=str,
)
def test_settings_that_change_the_training(tiny_config, discs, tmp_path, eager, settings):
    config = tiny_config(**settings)
    dataset = discs(channels=config.IMAGE_CHANNEL_COUNT)
    model = UNet(config, tmp_path)
    before = weights_of(model)
    history = model.train(dataset, dataset)
    assert all(np.isfinite(values).all() for values in history.values())
    assert ("val_loss" in history) == bool(config.VALIDATION_STEPS)
    assert changed_layers(before, weights_of(model)) == before.keys()
    (probabilities,) = model.predict([dataset.load_image(0)])
    assert probabilities.dtype == np.float32 and np.isfinite(probabilities).all()


def test_weight_decay_adds_the_squares_of_the_kernels_that_learn(tiny_config, tmp_path):
    model = UNet(tiny_config(WEIGHT_DECAY=0.01, DECODER="inception-se", DECODER_FILTERS=(8,)), tmp_path)
    set_trainable("decoder", model.keras_model, LAYER_REGEX)
    model.compile()
    encoder = set(encoder_layer_names(model.keras_model))
    kernels = [w[0] for name, w in weights_of(model).items() if name not in encoder and w[0].ndim > 1]
    assert len(kernels) > 5
    added = sum(float(loss) for loss in model.keras_model.losses)
    assert added == pytest.approx(0.01 * sum(np.square(kernel).sum() for kernel in kernels), rel=1e-4)
    model.config.update({"WEIGHT_DECAY": 0})
    model.compile()
    assert not model.keras_model.losses


def test_half_precision_scales_its_loss_and_resumes_the_scale(tiny_config, discs, tmp_path, eager):
    config = tiny_config(PRECISION="mixed_float16", BATCH_NORM=False)
    whole, stopped, resumed = (UNet(config, tmp_path / name) for name in ("whole", "stopped", "stopped"))
    whole.train(discs(), discs(), epochs=2)
    stopped.train(discs(), discs(), epochs=1)
    resumed.load_weights(resumed.find_last())
    resumed.train(discs(), discs(), epochs=2)
    assert_same_weights(resumed, whole)
    ours, theirs = (model.keras_model.optimizer for model in (resumed, whole))
    assert isinstance(ours, keras.optimizers.LossScaleOptimizer)
    assert float(ours.dynamic_scale) == float(theirs.dynamic_scale) > 1
    assert int(ours.step_counter) == int(theirs.step_counter) > 0


def test_a_model_can_be_evaluated_while_it_trains(tiny_config, discs, tmp_path, eager):
    model = UNet(tiny_config(STAGES=(("all", 2, 0.05),)), tmp_path)
    picture = discs().load_image(0)
    seen = [model.predict([picture])[0]]

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(model.predict([picture])[0])
            logs["noted"] = 7.0

    model.train(discs(), discs(), custom_callbacks=[Look()])
    assert [float(row["noted"]) for row in read_log(model)] == [7, 7]
    assert (seen[0] != seen[1]).any() and (seen[1] != seen[2]).any()
    np.testing.assert_array_equal(seen[2], model.predict([picture])[0])


def test_layers_by_regular_expression_and_none_at_all(tiny_config, discs, tmp_path, eager):
    model = UNet(tiny_config(STAGES=(("logits", 1),)), tmp_path)
    before = weights_of(model)
    model.train(discs(), discs())
    assert changed_layers(before, weights_of(model)) == {"logits"}
    with pytest.raises(ValueError, match="No layer of the model matches layers='heads'"):
        UNet(tiny_config(STAGES=(("heads", 1),)), tmp_path).train(discs(), discs())


def test_convolutions_learn_while_batch_normalisation_stays_as_it_is(tiny_config, discs, tmp_path, eager):
    model = UNet(tiny_config(STAGES=(("convolutions", 1),)), tmp_path)
    before = weights_of(model)
    norms = {layer.name for layer in model.keras_model.layers if isinstance(layer, keras.layers.BatchNormalization)}
    assert norms and all(name.endswith("_bn") for name in norms)
    model.train(discs(), discs())
    assert changed_layers(before, weights_of(model)) == before.keys() - norms


def test_a_diverged_training_is_stopped(tiny_config, discs, tmp_path, eager):
    model = UNet(tiny_config(BATCH_NORM=False), tmp_path)
    kernel = model.keras_model.get_layer("logits").kernel
    kernel.assign(np.full(kernel.shape, np.nan, np.float32))
    with pytest.raises(TrainingDivergedError, match="lower learning rate"):
        model.train(discs(), discs())
    assert not list(tmp_path.glob("*/*.h5"))


@pytest.mark.backend
def test_a_cosine_with_averages_goes_on_after_a_stop_as_if_there_had_been_none(tiny_config, discs, tmp_path, eager):
    settings = {
        "OPTIMIZER": "AdamW",
        "WEIGHT_DECAY": 0.01,
        "SCHEDULE": "cosine",
        "WARMUP_STEPS": 1,
        "AVERAGE_MOMENTUM": 0.5,
        "BALANCE_POWER": 0.5,
        "STAGES": (("all", 3, 0.01),),
    }
    whole = UNet(tiny_config(**settings), tmp_path / "whole")
    history = whole.train(discs(), discs())
    rates = [0.01 * warmup_cosine(step, total=6, warmup=1) for step in (1, 3, 5)]
    np.testing.assert_allclose(history["learning_rate"], rates, rtol=1e-5)

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    stopped = UNet(tiny_config(**settings), tmp_path / "stopped")
    with pytest.raises(KeyboardInterrupt):
        stopped.train(discs(), discs(), custom_callbacks=[Stop()])
    resumed = UNet(tiny_config(**settings, SEED=3), tmp_path / "stopped")
    resumed.config.SEED = stopped.config.SEED
    resumed.load_weights(resumed.find_last())
    resumed.train(discs(), discs())
    assert_same_weights(resumed, whole)
