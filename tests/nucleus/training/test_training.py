"""Stages of a training: their order, their rates, and where a resumed run goes on."""

from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
from nucleus.models.config import make_config
from nucleus.training.training import from_scratch_settings

from nucleus import cli
from nucleus.augmentation.augmenters import AUGMENTATIONS, make_augmentation
from nucleus.training import training
from trainkit.augmentation import augment_pair
from trainkit.hdf5 import WeightsFileError, save_weights
from trainkit.stages import Stage, lay_out_stages


class FakeMaskRCNN:
    """Notes what it is asked to train."""

    def __init__(self, log_dir, epoch=0, **settings):
        self.config = make_config("training", settings=settings)
        self.epoch, self.log_dir, self.calls = epoch, log_dir, []

    def inference_twin(self, config):
        self.twin = SimpleNamespace(config=config, copies=[])
        self.twin.copy_weights_from = self.twin.copies.append
        return self.twin

    def train(self, train_dataset, val_dataset, learning_rate, epochs, layers, augmentation, custom_callbacks):
        self.calls.append((layers, epochs, learning_rate))
        self.callbacks = custom_callbacks
        self.epoch = epochs


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


def test_a_resumed_run_goes_on_in_its_stage(tmp_path):
    fresh = FakeMaskRCNN(tmp_path, STAGES=STAGES)
    training.train(fresh, None, None)
    assert fresh.calls == [("heads", 3, 0.01), ("4+", 5, 0.001)]
    resumed = FakeMaskRCNN(tmp_path, epoch=3, STAGES=STAGES)
    training.train(resumed, None, None)
    assert resumed.calls == [("4+", 5, 0.001)]
    finished = FakeMaskRCNN(tmp_path, epoch=5, STAGES=STAGES)
    training.train(finished, None, None)
    assert finished.calls == []


def test_validation_scores_join_the_logs_and_the_best_weights_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "evaluate", lambda predictor, dataset, progress: dataset)
    saved = []
    monkeypatch.setattr("trainkit.callbacks.save_weights", lambda model, path: saved.append(path.name))
    model = FakeMaskRCNN(tmp_path, STAGES=STAGES, EVALUATE_EVERY=2)
    scores = pd.DataFrame({"mAP": [0.3, 0.5], "AP50": [0.6, 0.6], "AP75": [0.5, 0.5]})
    training.train(model, None, None, inference_config=make_config("inference"), evaluation_dataset=scores)
    (callback,) = model.callbacks
    callback.set_params({"epochs": 5})
    first, second = {}, {}
    callback.on_epoch_end(0, first)
    callback.on_epoch_end(1, second)
    assert first == {}
    assert second == {"val_mAP": 0.4, "val_AP50": 0.6, "val_AP75": 0.5}
    assert model.twin.copies == [model], "the twin scores the epoch's weights"
    assert saved == ["mask_rcnn_nucleus_best.h5"]


def test_evaluation_can_be_switched_off(tmp_path):
    model = FakeMaskRCNN(tmp_path, STAGES=STAGES, EVALUATE_EVERY=0)
    training.train(model, None, None, inference_config=make_config("inference"), evaluation_dataset=object())
    assert model.callbacks == []


def test_random_weights_train_everything():
    settings = from_scratch_settings(make_config("training", settings={"STAGES": STAGES}))
    config = make_config("training", settings=settings)
    assert config.TRAIN_BN is None
    assert [stage[:2] for stage in stages(config)] == [("all", 3), ("all", 5)]


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
    config = make_config("training", "small", {**TINY_UNET, "SEED": 1}, "unet")
    network = training.start(config, tmp_path, "none").keras_model
    encoder = keras.Model(network.input, network.get_layer("encoder_2_conv2").output)
    save_weights(encoder, tmp_path / "encoder.h5")
    config = make_config("training", "small", {**TINY_UNET, "SEED": 2}, "unet")
    begun = training.start(config, tmp_path, "file", tmp_path / "encoder.h5").keras_model
    for name in ("encoder_1_conv1", "encoder_2_conv2"):
        np.testing.assert_array_equal(begun.get_layer(name).kernel, network.get_layer(name).kernel)
    assert np.any(np.asarray(begun.get_layer("logits").kernel) != np.asarray(network.get_layer("logits").kernel))
    config = make_config("training", "small", {**TINY_UNET, "ENCODER_FILTERS": (4, 8)}, "unet")
    with pytest.raises(WeightsFileError, match=r"encoder\.h5: weights of another encoder"):
        training.start(config, tmp_path, "file", tmp_path / "encoder.h5")


def test_an_encoder_that_is_not_random_keeps_its_stages():
    config = make_config("training", "plain-bn", {"ENCODER_WEIGHTS": "some.h5"}, "unet")
    assert from_scratch_settings(config, {"ENCODER_WEIGHTS"}) == {}
    assert from_scratch_settings(config)["ENCODER_WEIGHTS"] is None
    asked = make_config("training", "plain-bn", {"ENCODER_WEIGHTS": None}, "unet")
    assert set(from_scratch_settings(asked, {"ENCODER_WEIGHTS"})) == {"ENCODER_WEIGHTS", "STAGES"}


@pytest.mark.parametrize("weights", ["imagenet", "last"])
def test_two_answers_to_what_the_encoder_begins_with_are_refused(tmp_path, capsys, weights):
    arguments = ["train", "--model=unet", f"--weights={weights}", "--set", "ENCODER_WEIGHTS=some.h5"]
    (tmp_path / "nucleus20240101T0000").mkdir()
    (tmp_path / "nucleus20240101T0000" / "unet_nucleus_0001.h5").touch()
    assert cli.main([*arguments, f"--logs={tmp_path}", f"--dataset={tmp_path}"]) == 1
    assert "ENCODER_WEIGHTS belongs to --weights=none" in capsys.readouterr().err
