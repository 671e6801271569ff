"""Networks as models: they are fine-tuned, answer with what they have learned, and come back from their files."""

import keras
import numpy as np
import pytest

from nucleus.datasets.dataset import DatasetError, NucleusDataset
from nucleus.images.preprocess import Clahe
from nucleus.models.loading import load_model
from nucleus.models.recipe import Recipe
from nucleus.models.registry import make_config
from nucleus.models.tiles import Tiles
from nucleus.models.tta import TestTimeAugmentation

KINDS = ("mask_rcnn", "unet")


@pytest.fixture
def dataset(tmp_path, add_sample, rectangle):
    """One image with two nuclei."""
    add_sample("a", [rectangle(4, 4, 20, 20, (64, 64)), rectangle(30, 8, 50, 40, (64, 64))], shape=(64, 64))
    dataset = NucleusDataset()
    dataset.load_nucleus(tmp_path, "stage1_train")
    dataset.prepare()
    return dataset


def evidence(model, image):
    """Returns what a network sees in an image before nuclei are made of it, as one row of numbers."""
    (looks,) = model.observe([model.prepare(image)])
    parts = [look if isinstance(look, np.ndarray) else np.concatenate([look[0].ravel(), look[2]]) for look in looks]
    return np.concatenate([part.ravel() for part in parts])


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_model_is_trained_on_and_answers_with_what_it_learned(tiny_weights, kind, dataset, tmp_path, eager):
    image = dataset.load_image(0)
    model = load_model(tiny_weights[kind], settings={"LEARNING_RATE": 0.01}, model_dir=tmp_path / "logs")
    before, during = evidence(model, image), []
    look = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: during.append(evidence(model, image)))
    history = model.fit(dataset, dataset, epochs=1, callbacks=[look])
    after = evidence(model, image)
    assert (history.step, len(history)) == ("epoch", 1) and model.model.epoch == 1
    assert {"loss", "val_loss"} <= history.logs.keys() and np.isfinite(history.logs["loss"]).all()
    with pytest.raises(ValueError, match="needs images to validate on"):
        model.fit(dataset, None)
    assert not np.array_equal(before, after)
    np.testing.assert_array_equal(during[0], after)
    (checkpoint,) = (tmp_path / "logs").glob("nucleus*/*_0001.h5")
    assert model.model.log_dir == str(checkpoint.parent) and model.model.best_path.parent == checkpoint.parent

    model.save(tmp_path / "new.h5")
    again = load_model(tmp_path / "new.h5")
    assert again.model.recipe == Recipe("tiny", {"CLAHE": True, "SEED": 3, "LEARNING_RATE": 0.01}, kind)
    np.testing.assert_array_equal(evidence(again, image), after)
    for one, other in zip(again.predict(image)[0], model.predict(image)[0], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_training_a_runs_checkpoint_on_is_a_run_of_its_own(tiny_weights, kind, dataset, tmp_path, monkeypatch):
    """Whichever epoch a model was loaded from: nothing is skipped, and the run that it is from stays as it is."""
    old = tmp_path / "nucleus20240101T0000" / f"{kind}_nucleus_0002.h5"
    model = load_model(tiny_weights[kind]).model
    model.network.save_weights(old)
    model.recipe.save(old.parent)
    files = {path: path.read_bytes() for path in old.parent.iterdir()}
    asked = []
    for method in ("mrcnn.model.MaskRCNN.train_stages", "unet.model.UNet.train"):
        monkeypatch.setattr(method, lambda network, *_: asked.append((network.epoch, network.checkpoint)) or {})
    tuned = load_model(old, model_dir=tmp_path / "logs").model
    assert tuned.epoch == 0 and tuned.log_dir.startswith(str(tmp_path / "logs"))
    tuned.fit(dataset, dataset)
    assert asked == [(0, None)] and tuned.log_dir.startswith(str(tmp_path / "logs"))
    assert {path: path.read_bytes() for path in old.parent.iterdir()} == files


def test_what_is_learned_is_preprocessed_as_what_is_predicted(tiny_weights, dataset):
    model, taken = load_model(tiny_weights["unet"]).model, []
    model._trainer = lambda: lambda train, val, *_: taken.extend([train.load_image(0), val.load_image(0)]) or {}
    model.fit(dataset, dataset)
    for image in taken:
        np.testing.assert_array_equal(image, Clahe()(dataset.load_image(0)))
    with pytest.raises(DatasetError, match="preprocesses images itself"):
        model.fit(dataset, dataset.for_training(model.prepare))


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_is_loaded_with_all_that_it_was_asked_for(tiny_weights, kind, tmp_path, eager):
    settings = {"MIN_AREA": 3, "TEST_TIME_AUGMENTATION": "flips"}
    model = load_model(tiny_weights[kind], settings=settings)
    model.save(tmp_path / "new.h5")
    again = load_model(tmp_path / "new.h5")
    assert type(again) is Tiles and type(again.model) is TestTimeAugmentation
    assert again.config.to_dict().keys() == model.config.to_dict().keys()
    image = np.random.default_rng(2).integers(0, 256, (33, 47, 3), np.uint8)
    for one, other in zip(again.predict(image)[0], model.predict(image)[0], strict=True):
        np.testing.assert_array_equal(one, other)
    again.config.update({"MIN_AREA": 4})
    half = tmp_path / "half.h5"
    again.model.model.save(half, "float16")
    assert half.stat().st_size < (tmp_path / "new.h5").stat().st_size
    assert load_model(half).config.MIN_AREA == 4


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_keeps_a_configuration_that_was_given(tiny_weights, kind, tmp_path):
    changed = {"MIN_AREA": 5, "CLAHE": False}
    changed |= {"mask_rcnn": {"MEAN_PIXEL": [1.0, 2.0, 3.0]}, "unet": {"MASK_THRESHOLD": 0.4}}[kind]
    model = load_model(tiny_weights[kind], make_config("inference", "tiny", {"SEED": 3, **changed}, kind))
    model.save(tmp_path / "new.h5")
    again = load_model(tmp_path / "new.h5")
    assert again.model.recipe == Recipe("tiny", {"SEED": 3, **changed}, kind)
    for name, value in model.config.to_dict().items():
        assert np.array_equal(getattr(again.config, name), value), name
