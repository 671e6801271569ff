"""Stages of a training: their order, their rates, and where a resumed run goes on."""

import os
from contextlib import nullcontext
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest

from mrcnn.model import MaskRCNN
from nucleus import cli
from nucleus.augmentation.augmenters import AUGMENTATIONS, make_augmentation
from nucleus.datasets.dataset import NucleusDataset
from nucleus.models.mask_rcnn import MaskRCNNModel
from nucleus.models.recipe import Recipe
from nucleus.models.registry import NETWORKS, make_config
from nucleus.models.unet import UNetModel
from nucleus.training.recipes import scratch_recipe, training_recipe
from nucleus.training.validation import validation_callbacks
from trainkit.augmentation import augment_pair
from trainkit.hdf5 import WeightsFileError, save_weights
from trainkit.locks import exclusive
from trainkit.runs import LOCK_FILE
from trainkit.settings import SettingsError
from trainkit.stages import Stage, lay_out_stages
from trainkit.trainee import Trainee


class FakeDataset:
    """Stands for images that no network looks at."""

    def for_training(self, preprocessing, mixing=None):
        return self


class FakeMaskRCNN(MaskRCNN):
    """Notes what it is asked to train, or whose weights it takes over, without a network."""

    def build(self, mode, config):
        self.calls, self.copies, self.seen = [], [], 0
        return None

    def _train_stage(self, stage, train_dataset, val_dataset, augmentation, custom_callbacks):
        for callback in custom_callbacks:
            callback.on_epoch_end(stage.until - 1, {})
        self.calls.append((stage.layers, stage.until, stage.learning_rate))
        self.epoch = stage.until
        return keras.callbacks.History()

    def inference_twin(self, config):
        twin = FakeMaskRCNN("inference", config, self.model_dir)
        twin.copy_weights_from(self)
        return twin

    def copy_weights_from(self, other):
        self.copies.append(other)

    def detect_instances(self, images, batch_size):
        self.seen += len(images)
        return [SimpleNamespace(boxes=np.zeros((0, 4), int), scores=np.zeros(0), limit_reached=False) for _ in images]


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """Returns a function that begins a training of a Mask R-CNN without a network."""
    monkeypatch.setattr("mrcnn.model.MaskRCNN", FakeMaskRCNN)

    def begin(epoch=0, **settings):
        model = MaskRCNNModel.begin(Recipe("lineage", settings), tmp_path)
        model.network.epoch = epoch
        return model

    return begin


STAGES = (("heads", 3, 0.01), ("4+", 2))


def stages(config, epochs=None):
    return lay_out_stages(config.STAGES, config.LEARNING_RATE, epochs)


def test_stages_follow_each_other_and_take_the_common_rate():
    config = make_config("training", settings={"STAGES": STAGES, "LEARNING_RATE": 0.002})
    assert stages(config) == [Stage("heads", 3, 0.01, begin=0), Stage("4+", 5, 0.002, begin=3)]


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [(2, [("heads", 2)]), (3, [("heads", 3)]), (4, [("heads", 3), ("4+", 4)]), (9, [("heads", 3), ("4+", 9)])],
)
def test_the_number_of_epochs_can_be_changed(epochs, expected):
    config = make_config("training", settings={"STAGES": STAGES})
    assert [stage[:2] for stage in stages(config, epochs)] == expected


def test_a_resumed_run_goes_on_in_its_stage(begun):
    for epoch, calls in ((0, [("heads", 3, 0.01), ("4+", 5, 0.001)]), (3, [("4+", 5, 0.001)]), (5, [])):
        model = begun(epoch, STAGES=STAGES)
        model.fit(FakeDataset(), FakeDataset())
        assert model.network.calls == calls


def test_validation_scores_join_the_logs_and_the_best_weights_are_named(begun, monkeypatch):
    scores = pd.DataFrame({"mAP": [0.3, 0.5], "AP50": [0.6, 0.6], "AP75": [0.5, 0.5]})
    scored, saved = [], []

    def evaluate(model, dataset, progress):
        scored.append(model)
        return scores

    monkeypatch.setattr("nucleus.training.validation.evaluate", evaluate)
    monkeypatch.setattr("trainkit.callbacks.save_weights", lambda model, path: saved.append(path.name))
    model = begun(STAGES=STAGES, EVALUATE_EVERY=2)
    (callback,) = validation_callbacks(model, FakeDataset())
    callback.set_params({"epochs": 5})
    callback.set_model(keras.Sequential())
    first, second = {}, {}
    callback.on_epoch_end(0, first)
    callback.on_epoch_end(1, second)
    assert first == {}
    assert second == {"val_mAP": 0.4, "val_AP50": 0.6, "val_AP75": 0.5}
    (watched,) = scored
    assert watched.model is model and saved == ["mask_rcnn_nucleus_best.h5"]


@pytest.mark.parametrize(("views", "count"), [("none", 1), ("flips", 4)])
def test_validation_scores_are_those_of_the_views_that_detect(begun, add_sample, rectangle, tmp_path, views, count):
    add_sample("a", [rectangle(1, 1, 5, 5)])
    dataset = NucleusDataset()
    dataset.load_nucleus(tmp_path, "stage1_train")
    dataset.prepare()
    model = begun(STAGES=STAGES, TEST_TIME_AUGMENTATION=views)
    (callback,) = validation_callbacks(model, dataset)
    callback.set_params({"epochs": 5})
    callback.set_model(keras.Sequential())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainkit.callbacks.save_weights", lambda model, path: None)
        callback.on_epoch_end(4, {})
    assert model._detecting().seen == count


def test_evaluations_begin_where_the_settings_say(begun, monkeypatch):
    scored = []
    scores = pd.DataFrame({"mAP": [0.3], "AP50": [0.6], "AP75": [0.5]})
    monkeypatch.setattr("nucleus.training.validation.evaluate", lambda *_, **__: scored.append(1) or scores)
    monkeypatch.setattr("trainkit.callbacks.save_weights", lambda model, path: None)
    monkeypatch.setattr("trainkit.callbacks.averaged_weights", lambda model: nullcontext())
    (callback,) = validation_callbacks(begun(STAGES=STAGES, EVALUATE_EVERY=10, EVALUATE_FROM=5), FakeDataset())
    callback.set_params({"epochs": 30})
    epochs = []
    for epoch in range(1, 31):
        before = len(scored)
        callback.on_epoch_end(epoch - 1, {})
        epochs += [epoch] * (len(scored) - before)
    assert epochs == [5, 15, 25, 30]


def test_evaluation_can_be_switched_off(begun):
    assert validation_callbacks(begun(STAGES=STAGES, EVALUATE_EVERY=0), FakeDataset()) == []


def test_a_mask_rcnn_detects_with_the_weights_of_the_moment(begun):
    model, copied = begun(STAGES=STAGES), []
    twin = model._detecting()
    assert twin.mode == "inference" and twin.copies == [model.network]
    assert model._detecting() is twin and len(twin.copies) == 1, "nothing was learned in between"
    look = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: copied.append(len(model._detecting().copies)))
    model.fit(FakeDataset(), FakeDataset(), callbacks=[look])
    assert copied == [2, 3], "once a stage, of an epoch each"
    assert model._detecting() is twin and len(twin.copies) == 4, "the end of a training may bring other weights back"


def test_random_weights_train_everything():
    config = make_config("training", settings={"STAGES": STAGES})
    config.update(MaskRCNNModel.scratch_settings(config))
    assert config.TRAIN_BN is None
    assert [stage[:2] for stage in stages(config)] == [("all", 3), ("all", 5)]


def test_what_is_asked_for_goes_before_what_random_weights_need():
    asked = {"STAGES": (("heads", 1),), "LEARNING_RATE": 0.1}
    recipe = scratch_recipe(Recipe("lineage", {"CLAHE": True, "LEARNING_RATE": 0.2}), asked)
    assert recipe == Recipe("lineage", {"CLAHE": True, "TRAIN_BN": None, **asked})
    assert training_recipe(Recipe("lineage"), "none", asked, steps=7) == Recipe(
        "lineage", {"TRAIN_BN": None, "STEPS_PER_EPOCH": 7, **asked}
    )
    own = Recipe("lineage", {"LEARNING_RATE": 0.2, "CLAHE": True})
    for weights in ("coco", "last", "file.h5"):
        assert training_recipe(own, weights, asked) == Recipe("lineage", {"CLAHE": True, **asked})
    with pytest.raises(SettingsError, match="LEARNING_RAT'"):
        scratch_recipe(Recipe("lineage"), {"LEARNING_RAT": 1})


@pytest.mark.parametrize("taken", [True, False])
def test_heads_begin_untrained_where_the_settings_say(taken, tiny_presets, tmp_path, monkeypatch):
    settings = {"NUM_CLASSES": 2, "COCO_HEADS": taken}
    source = MaskRCNNModel.begin(Recipe("tiny", {"SEED": 3}), tmp_path / "source").network
    save_weights(source.keras_model, tmp_path / "coco.h5")
    monkeypatch.setattr("mrcnn.weights.download_coco", lambda: tmp_path / "coco.h5")
    model = MaskRCNNModel.begin(Recipe("tiny", settings), tmp_path, "coco").network.keras_model

    def loaded(name):
        ours, theirs = (each.get_layer(name).get_weights()[0] for each in (model, source.keras_model))
        return np.array_equal(ours, theirs)

    assert loaded("res2a_branch2a") and loaded("fpn_p2")
    assert loaded("mrcnn_class_conv1") == loaded("mrcnn_mask_conv1") == taken
    assert not loaded("mrcnn_mask")


@pytest.mark.parametrize(("kind", "weights"), [("unet", "coco")])
def test_published_weights_that_a_kind_does_not_have_are_refused(kind, weights, tmp_path):
    with pytest.raises(ValueError, match=rf"{kind} cannot begin with --weights={weights}, but imagenet, none"):
        NETWORKS[kind].begin(Recipe("small", model=kind), tmp_path, weights)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_augmentation_changes_images_and_keeps_their_size(name):
    augmenter = make_augmentation(name)
    if name == "none":
        assert augmenter is None
        return
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    labels = np.zeros((32, 32), np.int32)
    labels[4:12, 6:20] = 1
    results = [augment_pair(augmenter, image, labels, seed) for seed in range(8)]
    assert all(new.shape == image.shape and new.dtype == np.uint8 for new, _ in results)
    assert any((new != image).any() for new, _ in results)
    assert any((new != labels).any() for _, new in results)


TINY_UNET = {"ENCODER": "plain", "DECODER": "plain", "ENCODER_FILTERS": (4, 6), "DROPOUT": 0.0, "IMAGE_SIZE": 32}


def test_a_file_of_an_encoder_is_loaded_as_one(tmp_path):
    def begin(weights, path=None, **settings):
        recipe = Recipe("small", {**TINY_UNET, **settings}, "unet")
        return UNetModel.begin(recipe, tmp_path, weights, path).network.keras_model

    network = begin("none", SEED=1)
    encoder = keras.Model(network.input, network.get_layer("encoder_2_conv2").output)
    save_weights(encoder, tmp_path / "encoder.h5")
    begun = begin("file", tmp_path / "encoder.h5", SEED=2)
    for name in ("encoder_1_conv1", "encoder_2_conv2"):
        np.testing.assert_array_equal(begun.get_layer(name).kernel, network.get_layer(name).kernel)
    assert np.any(np.asarray(begun.get_layer("logits").kernel) != np.asarray(network.get_layer("logits").kernel))
    with pytest.raises(WeightsFileError, match=r"encoder\.h5: weights of another encoder"):
        begin("file", tmp_path / "encoder.h5", ENCODER_FILTERS=(4, 8))


def test_an_encoder_that_is_not_random_keeps_its_stages():
    config = make_config("training", "plain-bn", {"ENCODER_WEIGHTS": "some.h5"}, "unet")
    assert UNetModel.scratch_settings(config, {"ENCODER_WEIGHTS"}) == {}
    assert UNetModel.scratch_settings(config)["ENCODER_WEIGHTS"] is None
    asked = make_config("training", "plain-bn", {"ENCODER_WEIGHTS": None}, "unet")
    assert set(UNetModel.scratch_settings(asked, {"ENCODER_WEIGHTS"})) == {"ENCODER_WEIGHTS", "STAGES"}


@pytest.mark.parametrize("weights", ["imagenet", "last"])
def test_two_answers_to_what_the_encoder_begins_with_are_refused(tmp_path, capsys, weights):
    arguments = ["train", "--model=unet", f"--weights={weights}", "--set", "ENCODER_WEIGHTS=some.h5"]
    (tmp_path / "nucleus20240101T0000").mkdir()
    (tmp_path / "nucleus20240101T0000" / "unet_nucleus_0001.h5").touch()
    assert cli.main([*arguments, f"--logs={tmp_path}", f"--dataset={tmp_path}"]) == 1
    assert "ENCODER_WEIGHTS belongs to --weights=none" in capsys.readouterr().err


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_run_that_another_process_trains_is_refused_and_left_as_it_is(
    kind, tiny_presets, add_sample, rectangle, tmp_path, monkeypatch, capsys
):
    class Resumed(Trainee):
        run_files = NETWORKS[kind].run_files

    def begin(model, weights, path):
        trainee = Resumed(model.training_config, model.model_dir)
        trainee.set_log_dir(path)
        return trainee

    monkeypatch.setattr(NETWORKS[kind], "_begin", begin)
    for folder in ("stage1_train", "other"):
        add_sample(folder, [rectangle(1, 1, 5, 5)], folder=folder)
    run = tmp_path / "logs" / "nucleus20240101T0000"
    run.mkdir(parents=True)
    (run / f"{kind}_nucleus_0001.h5").touch()
    Recipe("tiny", model=kind).save(run)
    with exclusive(run / LOCK_FILE):
        before = {path.name: path.read_bytes() for path in run.iterdir()}
        options = ("--weights=last", "--val-subset=other", "--set=CLAHE=True")
        assert cli.main(["train", f"--dataset={tmp_path}", f"--logs={tmp_path / 'logs'}", *options]) == 1
        assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    assert f"{run}: process {os.getpid()} on " in capsys.readouterr().err
