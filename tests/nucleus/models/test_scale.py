"""Images whose nuclei are larger or smaller than those a model learned: brought to its scale, or warned of."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy import ndimage

from nucleus import load_model
from nucleus.datasets.dataset import shipped_data
from nucleus.evaluation.scores import average_precision
from nucleus.images.labels import relabel_sequential
from nucleus.images.reading import read_image
from nucleus.models.limits import UnknownSize, watch_limits
from nucleus.models.scale import AutoScale, FixedScale, Scaled, find_factor, median_diameter, with_scale
from nucleus.models.settings import PredictionSettings
from trainkit.settings import SettingsError

KNOWN = (8.0, 12.0, 20.0)


def discs(diameter, shape=(200, 240), count=(4, 5)):
    """An image of bright discs, their label image."""
    image, labels = np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.int32)
    ys, xs = (
        np.linspace(side / (2 * number), side - side / (2 * number), number)
        for side, number in zip(shape, count, strict=True)
    )
    for number, (y, x) in enumerate([(y, x) for y in ys for x in xs], start=1):
        cv2.circle(labels, (round(x), round(y)), round((diameter - 1) / 2), number, -1)
    image[labels > 0] = 220
    return image, labels


def short_sighted(image):
    """Finds discs of the sizes in KNOWN; of larger ones two thirds, and the rest in specks; smaller ones not at all."""
    labels, _ = ndimage.label(image[..., 0] > 127)
    found = np.zeros_like(labels)
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        mask, diameter = labels[box] == number, box[0].stop - box[0].start
        if diameter < 0.9 * KNOWN[0]:
            continue
        found[box][mask] = found.max() + 1
        if diameter > 1.1 * KNOWN[2]:
            rest = mask & (np.arange(diameter) > 2 * diameter / 3)[:, None]
            found[box][rest] = found.max() + 1 + np.nonzero(rest)[1] // 3
    found, kept = relabel_sequential(found.astype(np.int32))
    return found, np.full(len(kept), 0.9, np.float32)


def settings(**changes):
    return PredictionSettings().update({"KNOWN_DIAMETERS": KNOWN, **changes})


@pytest.mark.parametrize("diameter", [5, 7, 12, 19, 36, 55])
def test_discs_of_any_size_are_all_found(fake_model, diameter):
    image, truth = discs(diameter, shape=(400, 500))
    (found,) = with_scale(fake_model(short_sighted, settings())).predict(image)
    assert len(found.scores) == truth.max()
    assert average_precision(truth, found.labels) > (0.6 if diameter < 8 else 0.85)
    assert found.labels.shape == truth.shape and found.labels.dtype == np.int32
    assert KNOWN[0] <= found.scale * diameter <= KNOWN[2]
    assert found.diameter == pytest.approx(diameter, rel=0.2)


def test_an_image_of_the_models_own_scale_is_left_as_it_is(fake_model):
    image, _ = discs(15)
    seen = []

    def find(view):
        seen.append(view.shape)
        return short_sighted(view)

    (found,) = with_scale(fake_model(find, settings())).predict(image)
    assert found.scale == 1 and seen == [image.shape]
    np.testing.assert_array_equal(found.labels, short_sighted(image)[0])


def test_an_image_without_nuclei_keeps_its_size_and_stays_empty(fake_model):
    noise = np.random.default_rng(0).integers(0, 90, (80, 100, 3), np.uint8)
    (found,) = with_scale(fake_model(short_sighted, settings())).predict(noise)
    assert found.labels.max() == 0 and found.scale == 1 and found.diameter is None


def test_a_batch_is_scaled_image_by_image(fake_model):
    images = [discs(diameter)[0] for diameter in (12, 36, 12)]
    model = with_scale(fake_model(short_sighted, settings()))
    together = model.predict(images)
    assert [found.scale for found in together] == [1, together[1].scale, 1] and together[1].scale < 0.6
    for found, image in zip(together, images, strict=True):
        np.testing.assert_array_equal(found.labels, model.predict(image)[0].labels)


def test_a_large_image_is_measured_in_windows_and_predicted_in_tiles(fake_model):
    image, truth = discs(36, shape=(1400, 1500), count=(20, 20))
    shapes = []

    def find(view):
        shapes.append(view.shape[:2])
        return short_sighted(view)

    model = with_scale(fake_model(find, settings(TILE_SIZE=256, TILE_OVERLAP=64)))
    (found,) = model.predict(image)
    assert len(found.scores) == truth.max() and average_precision(truth, found.labels) > 0.85
    assert max(height * width for height, width in shapes) <= 2 * 512**2
    # Windows to find the scale, then about the pixels of the reduced image, and not those of the whole one again.
    seen_pixels = sum(height * width for height, width in shapes)
    assert seen_pixels < 8 * 512**2 + 2.5 * image.shape[0] * image.shape[1] * found.scale**2


def test_sizes_that_no_scale_brings_into_reach_are_reported(fake_model):
    image, _ = discs(36)
    with watch_limits() as reached:
        with_scale(fake_model(short_sighted, settings(SCALE=1.0))).predict(image)
    (report,) = reached
    assert isinstance(report, UnknownSize) and report.known == (8, 20)
    assert "--scale" in str(report) and "8 to 20" in str(report)
    with watch_limits() as reached:
        with_scale(fake_model(short_sighted, settings())).predict(image)
    assert reached == []


def test_a_chosen_scale_and_a_diameter_are_taken_as_they_are(fake_model):
    image, truth = discs(36)
    for changes, scale in (({"SCALE": 0.4}, 0.4), ({"DIAMETER": 36.0}, 0.33)):
        model = with_scale(fake_model(short_sighted, settings(**changes)))
        (found,) = model.predict(image)
        assert type(model) is FixedScale and found.scale == scale and len(found.scores) == truth.max()
    plain = PredictionSettings().update({"SCALE": 0.4})
    (found,) = with_scale(fake_model(short_sighted, plain)).predict(image)
    assert found.scale == 0.4 and len(found.scores) == truth.max()


def test_contradicting_or_impossible_settings_are_refused(fake_model):
    with pytest.raises(ValueError, match="KNOWN_DIAMETERS"):
        with_scale(fake_model(short_sighted, PredictionSettings().update({"DIAMETER": 20})))
    for wrong in ({"SCALE": -1}, {"SCALE": 2.0, "DIAMETER": 3.0}, {"KNOWN_DIAMETERS": (3, 2, 5)}):
        with pytest.raises(SettingsError):
            PredictionSettings().update(wrong)


def test_labels_come_back_with_smooth_outlines(fake_model):
    _, truth = discs(30)
    reduced = cv2.resize(truth.astype(np.float32), None, fx=1 / 3, fy=1 / 3, interpolation=cv2.INTER_NEAREST)

    labels, kept = relabel_sequential(reduced.astype(np.int32))
    model = Scaled(fake_model(lambda _: (labels, np.ones(len(kept), np.float32))), 1 / 3)
    (found,) = model.predict(np.zeros((*truth.shape, 3), np.uint8))
    nearest = cv2.resize(reduced, truth.shape[::-1], interpolation=cv2.INTER_NEAREST)
    agreement = np.mean((found.labels > 0) == (truth > 0)), np.mean((nearest > 0) == (truth > 0))
    assert len(found.scores) == truth.max() and agreement[0] > agreement[1]


def test_specks_do_not_hide_how_large_nuclei_are():
    labels = np.zeros((100, 100), np.int32)
    labels[0, ::4] = np.arange(1, 26)
    labels[20:60, 20:60] = 26
    assert median_diameter(labels) == pytest.approx(2 * 40 / np.sqrt(np.pi))
    assert median_diameter(np.zeros((5, 5), np.int32)) == 0


def test_the_search_ends_at_the_limits(fake_model):
    image, _ = discs(60, shape=(900, 1000))
    factor, diameter = find_factor(fake_model(short_sighted, settings()), image, (1.0, 1.5, 2.0))
    assert factor >= 1 / 16 and diameter > 0


@pytest.mark.parametrize("factor", [1 / 3, 0.5, 2, 3])
def test_a_shipped_image_of_another_size_has_the_same_nuclei(factor):
    (path,) = Path(shipped_data()).glob("*/2c61fdcb*/images/*.png")
    model = load_model("classical/watershed", settings={"KNOWN_DIAMETERS": (10, 20, 40)})
    image = read_image(path)
    resized = cv2.resize(
        image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    )
    (own,), (other,) = model.predict(image), model.predict(resized)
    assert isinstance(model, AutoScale)
    assert len(other.scores) == pytest.approx(len(own.scores), rel=0.25)
    assert 10 <= other.diameter * other.scale <= 40
