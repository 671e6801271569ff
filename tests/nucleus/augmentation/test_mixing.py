"""Images that take colours and nuclei of others: which others, in both models' batches, and the same in every run."""

from contextlib import nullcontext

import numpy as np
import pytest

from mrcnn.data import DataGenerator
from nucleus import cli
from nucleus.augmentation.colour_transfer import ColourStatistics
from nucleus.augmentation.mixing import Mixing
from nucleus.datasets.dataset import NucleusDataset, shipped_data
from nucleus.images.preprocess import Clahe
from nucleus.models.mask_rcnn import MaskRCNNModel
from nucleus.models.registry import NETWORKS, make_config
from trainkit.settings import SettingsError
from unet.data import TrainingBatches

SETTINGS = {"AUGMENTATION": "none", "DATA_WORKERS": 0, "STEPS_PER_EPOCH": 4}


def shipped(mixing=None, modality=None, **options):
    dataset = NucleusDataset(mixing=mixing, **options)
    dataset.load_nucleus(shipped_data(), "all")
    dataset.image_info = [info for info in dataset.image_info if modality in (None, info["modality"])]
    dataset.prepare()
    return dataset


@pytest.fixture(scope="module")
def plain():
    return shipped()


def draw(dataset, image_id, seed=0):
    image, (labels, class_ids) = dataset.draw_sample(image_id, np.random.default_rng(seed))
    np.testing.assert_array_equal(class_ids, np.ones(labels.max(initial=0)))
    return image, labels


def test_without_mixing_images_are_drawn_as_they_are(plain):
    image, labels = draw(plain, 0)
    np.testing.assert_array_equal(image, plain.load_image(0))
    np.testing.assert_array_equal(labels, plain.load_labels(0)[0])
    never = shipped(Mixing(0.0, 0.0))
    np.testing.assert_array_equal(draw(never, 0)[0], image)


def test_colours_move_between_sections_of_one_stain_only(plain):
    dataset = shipped(Mixing(colour_transfer=1.0))
    changed = set()
    for index in dataset.image_ids:
        image, labels = draw(dataset, index)
        np.testing.assert_array_equal(labels, plain.load_labels(index)[0])
        if (image != plain.load_image(index)).any():
            modality = dataset.image_info[index]["modality"]
            changed.add(modality)
            got = ColourStatistics.of(image).mean
            others = [i for i in dataset.image_ids if i != index and dataset.image_info[i]["modality"] == modality]
            distances = [np.abs(got - ColourStatistics.of(plain.load_image(i)).mean).max() for i in others]
            assert min(distances) < 0.02
    assert changed and changed <= {"h&e-purple", "h&e-white"}


def test_without_known_modalities_only_images_that_look_alike_are_mixed(plain):
    dataset = shipped(Mixing(1.0, 1.0))
    for info in dataset.image_info:
        info["modality"] = "unknown"
    for index in dataset.image_ids:
        image, labels = draw(dataset, index)
        before = plain.load_image(index)
        if "h&e" not in plain.image_info[index]["modality"]:
            assert (image[..., 0] == image[..., 2]).all() == (before[..., 0] == before[..., 2]).all()
        there = plain.load_labels(index)[0]
        np.testing.assert_array_equal(labels[there > 0], there[there > 0])


def test_nuclei_come_from_other_images_up_to_the_share():
    dataset = shipped(Mixing(copy_paste=1.0, share=0.2, touching=0.5), "fluorescence")
    counts = []
    for index in dataset.image_ids:
        present = dataset.load_labels(index)[0].max()
        for seed in range(3):
            added = draw(dataset, index, seed)[1].max() - present
            assert 0 <= added <= max(1, round(0.2 * present))
            counts.append(added)
    assert np.mean(np.array(counts) > 0) > 0.5
    alone = shipped(Mixing(1.0, 1.0), "fluorescence")
    alone.image_info = alone.image_info[:1]
    np.testing.assert_array_equal(draw(alone, 0)[0], alone.load_image(0))


def test_images_are_mixed_before_they_are_preprocessed():
    mixing, clahe = Mixing(1.0, 1.0), Clahe()
    for index in (1, 2):
        image, labels = draw(shipped(mixing), index)
        prepared, same = draw(shipped(mixing, preprocessing=clahe), index)
        np.testing.assert_array_equal(prepared, clahe(image))
        np.testing.assert_array_equal(same, labels)


def test_images_that_are_fitted_are_mixed_as_fitted():
    image, labels = draw(shipped(Mixing(0.0, 1.0), "h&e-white", fit=200), 0)
    assert image.shape == (200, 200, 3) and labels.shape == (200, 200)


def mask_rcnn_batches(dataset, workers=0):
    config = make_config("training", "small", {**SETTINGS, "IMAGES_PER_GPU": 2, "DATA_WORKERS": workers})
    return DataGenerator(dataset, config, seed=5)


def unet_batches(dataset, workers=0):
    settings = {**SETTINGS, "BATCH_SIZE": 2, "SEED": 5, "DATA_WORKERS": workers}
    return TrainingBatches(dataset, make_config("training", "plain-bn", settings, "unet"))


def arrays(batch):
    parts = (part.values() if isinstance(part, dict) else [part] for part in batch)
    return [array for part in parts for array in part]


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(arrays(one), arrays(other), strict=True))


@pytest.mark.parametrize("make", [mask_rcnn_batches, unet_batches])
def test_batches_are_mixed_alike_whatever_the_threads_and_the_epoch_they_begin_with(make):
    mixed = shipped(Mixing(0.5, 0.5), "h&e-white")
    ahead = make(mixed, workers=2)
    ahead.on_epoch_begin()
    first = [ahead[index] for index in range(4)]
    ahead.on_epoch_end()
    second = ahead[0]

    alone = make(shipped(Mixing(0.5, 0.5), "h&e-white"))
    assert all(same(alone[index], batch) for index, batch in enumerate(first))
    assert not all(same(make(shipped(None, "h&e-white"))[index], batch) for index, batch in enumerate(first))
    resumed = make(mixed)
    resumed.epoch = 1
    assert same(resumed[0], second)


def test_mixing_is_what_the_configuration_asks_for():
    assert Mixing.of(make_config("training")) is None
    settings = {"COLOUR_TRANSFER": "0.3", "COPY_PASTE_SHARE": "0.25"}
    for model in ("mask_rcnn", "unet"):
        assert Mixing.of(make_config("training", settings=settings, model=model)) == Mixing(0.3, 0.0, 0.25, 0.3)
    for name, value in (("COLOUR_TRANSFER", 1.5), ("COPY_PASTE", -0.1), ("COPY_PASTE_TOUCHING", 2)):
        with pytest.raises(SettingsError, match=f"{name} must be from 0 to 1. Received: {value}"):
            make_config("training", settings={name: value})
    with pytest.raises(SettingsError, match="COPY_PASTE_SHARE must be above 0"):
        make_config("training", settings={"COPY_PASTE_SHARE": 0})


def test_train_mixes_the_images_to_train_on_and_no_others(monkeypatch, tmp_path):
    got = []

    class FakeNetwork(MaskRCNNModel):
        log_dir, epoch, best_path = tmp_path, 1, tmp_path / "best.h5"
        hold_run = staticmethod(nullcontext)

        def _begin(self, weights, path):
            return None

        def _trainer(self):
            return lambda train, val, *_: got.extend([train, val])

    monkeypatch.setitem(NETWORKS, "mask_rcnn", FakeNetwork)
    scored = []
    monkeypatch.setattr("nucleus.training.validation.validation_callbacks", lambda _, val: scored.append(val) or [])
    arguments = ["train", f"--dataset={shipped_data()}", "--weights=none", "--set", "COPY_PASTE=0.4"]
    assert cli.main(arguments) == 0
    assert [dataset.mixing for dataset in got + scored] == [Mixing(copy_paste=0.4), None, None]
