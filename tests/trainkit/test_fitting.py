"""The frame around `fit`: layers, optimizers, stages, resuming, divergence. Models of a few weights."""

import csv
import os
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from trainkit.batches import Batches, Shuffled
from trainkit.checkpoint import CheckpointError, synchronise
from trainkit.fitting import TrainingDivergedError, fit, set_trainable
from trainkit.locks import LockedError
from trainkit.optimizers import make_optimizer
from trainkit.runs import LOCK_FILE, RunFiles
from trainkit.stages import Stage, run_stages
from trainkit.trainee import Trainee

STAGE = {"layers": "all", "learning_rate": 0.05}


class Points(Batches):
    """Six random numbers each, and whether their sum is positive; `value` instead if it is given."""

    value = None

    def sample(self, item, rng):
        x = rng.normal(size=6).astype(np.float32)
        return x, np.float32(x.sum() > 0) if self.value is None else np.float32(self.value)

    def collate(self, samples):
        x, y = zip(*samples, strict=True)
        return np.stack(x), np.array(y)[:, None]


class Tiny(Trainee):
    """Two dense layers, one of them in a nested model, batch normalisation and dropout."""

    run_files = RunFiles("tiny")

    def __init__(self, model_dir, seed=0, rate=0.05):
        super().__init__(SimpleNamespace(NAME="Points"), model_dir)
        keras.utils.set_random_seed(seed)
        x = inputs = keras.Input((6,))
        body = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4, name="inner")], name="body")
        for layer in (body, keras.layers.BatchNormalization(name="norm"), keras.layers.Dropout(0.3, name="drop")):
            x = layer(x)
        self.keras_model = keras.Model(inputs, keras.layers.Dense(1, name="outer")(x))
        rng = np.random.default_rng(seed)
        for weight in self.keras_model.trainable_variables:
            if weight.path.endswith("kernel"):
                weight.assign(rng.normal(0, 0.4, weight.shape).astype(np.float32))
        self.keras_model.compile(keras.optimizers.SGD(rate, momentum=0.9), "mse")

    def train(self, epochs, stage=STAGE, **settings):
        training, validation = (Points(Shuffled(range(9), 1), batch_size=4, steps=3, seed=1) for _ in range(2))
        return fit(self, training, validation, epochs=epochs, stage=stage, seed=1, **settings)

    def weights(self):
        synchronise(self.keras_model)
        return [keras.ops.convert_to_numpy(weight) for weight in self.keras_model.weights]


def assert_equal(ours, theirs):
    for one, other in zip(ours.weights(), theirs.weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def read_log(model):
    with open(Path(model.log_dir) / "training.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.backend
def test_a_training_leaves_its_files_and_is_resumed_from_them(tmp_path):
    whole = Tiny(tmp_path / "whole")
    history = whole.train(3).history
    assert (whole.epoch, len(history["val_loss"])) == (3, 3)
    folder = Path(whole.log_dir)
    assert sorted(path.name for path in folder.glob("*.h5")) == [f"tiny_points_000{n}.h5" for n in (1, 2, 3)]
    assert [float(row["loss"]) for row in read_log(whole)] == pytest.approx(history["loss"], rel=1e-5)

    Tiny(tmp_path / "stopped").train(2)
    resumed = Tiny(tmp_path / "stopped", seed=9)
    resumed.load_weights(resumed.find_last())
    assert resumed.epoch == 2
    resumed.train(3)
    assert [row["epoch"] for row in read_log(resumed)] == ["1", "2", "3"]
    assert_equal(resumed, whole)


@pytest.mark.backend
def test_what_preparing_a_batch_raises_arrives_as_it_is(tmp_path, monkeypatch):
    def vanish_after_the_first(batches, item, rng, sample=Points.sample):
        if batches.epoch:
            raise FileNotFoundError("gone.png")
        return sample(batches, item, rng)

    monkeypatch.setattr(Points, "sample", vanish_after_the_first)
    model = Tiny(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"^gone\.png$"):
        model.train(2)
    assert model.epoch == 1 and Path(model.find_last()).name == "tiny_points_0001.h5"


def test_a_new_stage_takes_the_random_generators_but_not_the_optimizer(tmp_path):
    second = {**STAGE, "learning_rate": 0.01}
    whole = Tiny(tmp_path / "whole")
    whole.train(1)
    whole.keras_model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse")
    whole.train(2, stage=second)

    Tiny(tmp_path / "stopped").train(1)
    resumed = Tiny(tmp_path / "stopped", seed=9, rate=0.01)
    resumed.load_weights(resumed.find_last())
    resumed.train(2, stage=second)
    assert int(resumed.keras_model.optimizer.iterations) == 3
    assert_equal(resumed, whole)


def test_a_checkpoint_of_another_optimizer_is_refused(tmp_path):
    Tiny(tmp_path).train(1)
    other = Tiny(tmp_path)
    other.keras_model.compile(keras.optimizers.Adam(), "mse")
    other.load_weights(other.find_last())
    with pytest.raises(CheckpointError, match="another optimizer"):
        other.train(2)


def test_a_diverged_training_stops_before_its_weights_are_written(tmp_path, monkeypatch):
    model = Tiny(tmp_path)
    model.train(1)
    monkeypatch.setattr(Points, "value", np.nan)
    with pytest.raises(TrainingDivergedError, match=r"step 1 of epoch 2.*lower learning rate"):
        model.train(3)
    assert model.epoch == 1
    assert [path.name for path in Path(model.log_dir).glob("*.h5")] == ["tiny_points_0001.h5"]


def test_an_interrupted_training_knows_its_epochs(tmp_path):
    class Interrupt(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    model = Tiny(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        model.train(5, callbacks=[Interrupt()])
    assert model.epoch == 2
    assert Path(model.find_last()).name == "tiny_points_0002.h5"


def test_layers_learn_whose_whole_name_matches(tmp_path, capsys):
    model = Tiny(tmp_path).keras_model
    assert set_trainable("(in|out)ner", model) == ["inner"]
    assert {weight.path.split("/")[-2] for weight in model.trainable_variables} == {"inner"}
    assert set_trainable("ends", model, {"ends": "inner|outer"}, verbose=1) == ["inner", "outer"]
    assert "inner, outer" in capsys.readouterr().out
    with pytest.raises(ValueError, match="No layer of the model matches layers='inn'"):
        set_trainable("inn", model)
    with pytest.raises(ValueError, match=r"one of \['ends'\] or a regular expression"):
        set_trainable("(", model, {"ends": "outer"})


def test_weights_are_copied_between_equal_models_only(tmp_path):
    ours, theirs = Tiny(tmp_path, seed=1), Tiny(tmp_path, seed=2)
    ours.copy_weights_from(theirs)
    assert_equal(ours, theirs)
    theirs.keras_model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1, name="else")])
    with pytest.raises(ValueError, match=r"differ in architecture: .*else"):
        ours.copy_weights_from(theirs)


def test_optimizers():
    adam, descent = make_optimizer("Adam", 0.1, 0.9, None), make_optimizer("SGD", 0.1, 0.8, 5.0)
    assert isinstance(adam, keras.optimizers.Adam) and adam.global_clipnorm is None
    assert isinstance(descent, keras.optimizers.SGD)
    assert (descent.momentum, descent.global_clipnorm) == (0.8, 5.0)


def test_adamw_decays_kernels_and_not_normalisation_or_biases():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2), keras.layers.BatchNormalization()])
    for weight in model.trainable_variables:
        weight.assign(np.ones(weight.shape))
    optimizer = make_optimizer("AdamW", 0.1, 0.0, None, weight_decay=0.5, average_momentum=0.9)
    optimizer.apply([keras.ops.zeros(weight.shape) for weight in model.trainable_variables], model.trainable_variables)
    left = {weight.name: float(keras.ops.min(weight)) for weight in model.trainable_variables}
    # Without a gradient, the decay is all that a step does: the share of the kernels times the rate.
    assert left == pytest.approx({"kernel": 1 - 0.1 * 0.5, "bias": 1.0, "gamma": 1.0, "beta": 1.0})
    assert (optimizer.use_ema, optimizer.ema_momentum) == (True, 0.9)


def test_a_callback_finds_the_checkpoint_of_its_epoch_and_adds_to_the_logs(tmp_path):
    """Also in the first epoch, beside an earlier run, whose checkpoint a score would else be given to."""
    Tiny(tmp_path).train(1)
    model = Tiny(tmp_path, seed=5)

    class Score(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.found, self.equal = [], []

        def on_epoch_end(self, epoch, logs=None):
            self.found.append(Path(model.find_last()))
            other = Tiny(tmp_path / "other", seed=9)
            other.load_weights(self.found[-1])
            kernels = [weights.keras_model.get_layer("outer").kernel for weights in (model, other)]
            synchronise(model.keras_model)
            self.equal.append(np.array_equal(*(keras.ops.convert_to_numpy(kernel) for kernel in kernels)))
            logs["scored"] = 0.25 + epoch

    score = Score()
    model.train(2, callbacks=[score])
    assert score.found == [Path(model.log_dir) / f"tiny_points_000{epoch}.h5" for epoch in (1, 2)]
    assert score.equal == [True, True], "the file holds the weights that are scored"
    assert [float(row["scored"]) for row in read_log(model)] == [0.25, 1.25]


def test_an_epoch_whose_callback_is_stopped_is_in_the_log(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    model = Tiny(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        model.train(3, callbacks=[Stop()])
    assert [row["epoch"] for row in read_log(model)] == ["1", "2"]
    assert Path(model.find_last()).name == "tiny_points_0002.h5"


def test_a_folder_is_taken_by_the_training_that_needs_it_and_by_no_other_model(tmp_path):
    ours, theirs, detecting = Tiny(tmp_path), Tiny(tmp_path), Tiny(tmp_path)
    assert not list(tmp_path.iterdir()), "a model that only predicts leaves no folder"
    assert ours.log_dir != theirs.log_dir and Path(ours.log_dir).is_dir()
    assert ours.log_dir == ours.log_dir and ours.checkpoint_path.startswith(ours.log_dir)
    ours.train(1)
    detecting.load_weights(ours.find_last())
    assert detecting.log_dir == ours.log_dir and detecting.epoch == 1
    assert len(list(tmp_path.iterdir())) == 2
    theirs.continue_run_of(ours)
    assert (theirs.log_dir, theirs.checkpoint_path, theirs.epoch) == (ours.log_dir, ours.checkpoint_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == [Path(ours.log_dir).name], "the unused one is gone"


def test_a_run_is_trained_by_one_at_a_time_and_a_dead_process_is_no_one(tmp_path):
    model, other, refused = Tiny(tmp_path), Tiny(tmp_path, seed=5), []

    class Resume(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            other.load_weights(model.find_last())
            with pytest.raises(LockedError) as caught:
                run_stages(other, [Stage("all", until=9, learning_rate=0.1)], lambda _: other.train(9))
            refused.append(str(caught.value))

    model.train(1, callbacks=[Resume()])
    assert len(refused) == 1 and other.epoch == 1
    assert refused[0].startswith(f"{model.log_dir}: process {os.getpid()} on ") and "since 20" in refused[0]

    left = Path(model.log_dir) / LOCK_FILE
    assert not left.exists()
    left.write_text('{"host": "here", "pid": 1, "since": "2024-01-31T12:00:00"}')
    other.train(2)
    assert other.epoch == 2 and not left.exists()


def test_a_model_that_continues_the_run_of_its_holder_trains_and_holds_it(tmp_path):
    detecting, training, stranger = Tiny(tmp_path), Tiny(tmp_path), Tiny(tmp_path)
    with detecting.hold_run():
        training.continue_run_of(detecting)
        training.train(1)
        stranger.load_weights(training.find_last())
        with pytest.raises(LockedError):
            stranger.train(2)
    stranger.train(2)


def test_a_training_with_nothing_left_says_so(tmp_path, caplog):
    model = Tiny(tmp_path)
    model.epoch = 2
    before = model.weights()
    assert model.train(2).history == {}
    stages = [Stage("all", until=2, learning_rate=0.1)]
    assert run_stages(model, stages, lambda _: pytest.fail("it trained")) == {}
    said = "nothing is left to train: 2 epochs are finished, and training is to end after epoch 2"
    assert [said in record.getMessage() for record in caplog.records] == [True, True]
    for one, other in zip(before, model.weights(), strict=True):
        np.testing.assert_array_equal(one, other)
