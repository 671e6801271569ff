"""Images are read ahead and predicted in batches; what comes out is what one image after the other gives."""

import logging
import threading
from collections import Counter

import cv2
import numpy as np
import pytest

import nucleus
from nucleus.datasets.dataset import NucleusDataset, shipped_data
from nucleus.evaluation.evaluation import evaluate_fully
from nucleus.models.limits import Limit, report_limit, watch_limits
from nucleus.models.tiles import Tiles
from nucleus.models.tta import TestTimeAugmentation
from nucleus.models.views import make_views
from nucleus.prediction import chunks
from nucleus.prediction.chunks import Item, predict_together, read_ahead, read_chunks
from nucleus.prediction.predictions import KeptPredictions, ModelPredictions


@pytest.fixture
def crops(tmp_path):
    """Twelve crops of shipped images in three sizes, mixed, and one that cannot be read."""
    folder = tmp_path / "crops"
    folder.mkdir()
    paths = sorted(shipped_data().glob("stage1_train/*/images/*.png"))[:6]
    for number, (path, side) in enumerate((path, side) for side in (128, 96) for path in paths):
        image = nucleus.read_image(path)[:side, : side - 32 * (number % 3 == 0)]
        cv2.imwrite(str(folder / f"{number:02d}.png"), image[..., ::-1])
    (folder / "05b.png").write_bytes(b"broken")
    return folder


def contents(run):
    paths = (path for path in run.output.rglob("*") if path.suffix in (".png", ".csv"))
    return {path.relative_to(run.output).as_posix(): path.read_bytes() for path in paths}


@pytest.mark.parametrize("kind", ["mask_rcnn", "unet"])
def test_batches_give_what_single_images_give(crops, tiny_weights, tmp_path, monkeypatch, kind):
    """Label images byte for byte; scores to the digits of the table; in views, which are batched too."""
    model = nucleus.load_model(tiny_weights[kind], settings={"TEST_TIME_AUGMENTATION": "flips"})
    together = nucleus.detect_images(crops, tmp_path / "together", model, progress=False)
    monkeypatch.setattr(chunks, "CHUNK_IMAGES", 1)
    single = nucleus.detect_images(crops, tmp_path / "single", model, progress=False)
    assert together.images == single.images == 12 and together.failures == single.failures
    assert contents(together) == contents(single)


class Counting:
    """Counts the images of each call of a model's `_predict`."""

    def __init__(self, model, monkeypatch):
        self.calls, predict = [], model._predict
        monkeypatch.setattr(model, "_predict", lambda images: self.calls.append(len(images)) or predict(images))


def test_images_go_through_the_model_in_bounded_chunks(crops, threshold_model, tmp_path, monkeypatch):
    counting = Counting(threshold_model, monkeypatch)
    monkeypatch.setattr(chunks, "CHUNK_IMAGES", 16)
    nucleus.detect_images(crops, tmp_path / "a", threshold_model, progress=False)
    monkeypatch.setattr(chunks, "CHUNK_IMAGES", 5)
    nucleus.detect_images(crops, tmp_path / "b", threshold_model, progress=False)
    monkeypatch.setattr(chunks, "CHUNK_PIXELS", 128 * 128 * 2)
    nucleus.detect_images(crops, tmp_path / "c", threshold_model, progress=False)
    assert counting.calls[:4] == [12, 5, 4, 3], "the broken image is one of its chunk"
    assert sum(counting.calls[4:]) == 12 and max(counting.calls[4:]) <= 4


def test_the_division_into_chunks_does_not_depend_on_what_is_done():
    images = [np.zeros((10, 10 * (1 + number % 3), 3), np.uint8) for number in range(40)]

    def sizes(done):
        items = (Item(index, str(index), "", done=index in done) for index in range(40))
        return [[item.index for item in chunk] for chunk in read_chunks(items, images.__getitem__)]

    assert sizes(()) == sizes(range(0, 40, 2)) == sizes(range(40))


def test_the_next_images_are_read_while_a_model_works_on_some(monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_IMAGES", 1)
    read = [threading.Event() for _ in range(3)]

    def load(index):
        read[index].set()
        return np.zeros((4, 4, 3), np.uint8)

    reading = read_ahead(read_chunks((Item(index, "", "") for index in range(3)), load))
    assert next(reading)[0].index == 0
    assert read[1].wait(10), "the second is read while the caller has the first"
    assert not read[2].is_set()
    reading.close()


def test_nothing_is_read_beside_a_large_image(monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_PIXELS", 10)
    held = Counter()

    class Image(np.ndarray):
        def __array_finalize__(self, _):
            held["now"] += 1
            held["most"] = max(held["most"], held["now"])

        def __del__(self):
            held["now"] -= 1

    for chunk in read_ahead(read_chunks((Item(index, "", "") for index in range(5)), lambda _: Image((4, 4, 3)))):
        assert len(chunk) == 1 and held["now"] == 1
    assert held["most"] == 1


@pytest.mark.parametrize("error", [MemoryError(), ValueError("not for me"), RuntimeError("out of device memory")])
def test_an_error_in_a_batch_is_that_of_one_image(crops, fake_model, tmp_path, error):
    def find(image):
        if image.shape == (96, 64, 3):
            raise error
        return (image[..., 0] > 100).astype(np.int32), np.ones(int((image[..., 0] > 100).any()), np.float32)

    run = nucleus.detect_images(crops, tmp_path / "out", fake_model(find), progress=False)
    assert (run.images, len(run.failures)) == (10, 3)
    assert sum("05b.png" in failure for failure in run.failures) == 1
    about = [failure for failure in run.failures if "05b.png" not in failure]
    cause = "64 x 96 pixels need more memory" if isinstance(error, MemoryError) else str(error)
    assert len(about) == 2 and all(str(crops) in failure and cause in failure for failure in about)


def test_samples_that_do_not_fit_into_memory_are_one_images_failure(crops, threshold_model, tmp_path, monkeypatch):
    load = NucleusDataset.load_raw

    def load_raw(dataset, index):
        if dataset.image_info[index]["id"] == "03":
            raise MemoryError
        return load(dataset, index)

    monkeypatch.setattr(NucleusDataset, "load_raw", load_raw)
    run = nucleus.detect_images(crops, tmp_path / "out", threshold_model, progress=False)
    assert run.images == 11 and any("03.png" in failure for failure in run.failures)
    assert not (tmp_path / "out" / "labels" / "03.png").exists()


def limited(fake_model, most):
    """A model that finds bright pixels and reports a limit in images with more than `most` of them."""

    class Limited(fake_model):
        def _predict(self, images):
            for index, image in enumerate(images):
                if (image > 127).sum() > 3 * most:
                    report_limit(Limit("MOST", most, image.shape[:2], index))
            return super()._predict(images)

    def find(image):
        labels = (image[..., 0] > 127).astype(np.int32)
        return labels, np.ones(labels.max(), np.float32)

    return Limited(find)


@pytest.mark.parametrize("wrap", [lambda model: model, lambda model: TestTimeAugmentation(model, make_views("flips"))])
@pytest.mark.parametrize("tiles", [False, True])
def test_a_limit_in_a_batch_is_that_of_one_image(fake_model, write_squares, tmp_path, caplog, wrap, tiles):
    for name in "abcd":
        write_squares(f"in/{name}.png", (2, 2))
    write_squares("in/c.png", (2, 2), (12, 12))
    model = wrap(limited(fake_model, 20))
    model = Tiles(model, 48, 16) if tiles else model
    with caplog.at_level(logging.WARNING):
        nucleus.detect_images(tmp_path / "in", model=model, progress=False)
    messages = [record.getMessage() for record in caplog.records if "MOST=20" in record.getMessage()]
    assert messages and all(message.startswith(str(tmp_path / "in" / "c.png")) for message in messages)
    assert len(messages) == 1


@pytest.mark.parametrize(("side", "calls"), [(64, [6, 1, 1, 1, 1]), (32, [6])])
def test_only_crowded_images_of_a_batch_are_divided_and_only_where_tiles_are_smaller(
    fake_model, monkeypatch, side, calls
):
    images = [np.zeros((side, side, 3), np.uint8) for _ in range(6)]
    images[4][:8, :8] = 200
    model = limited(fake_model, 20)
    counting = Counting(model, monkeypatch)
    with watch_limits() as reached:
        Tiles(model, 48, 16).predict(images)
    assert counting.calls == calls
    assert [limit.index for limit in reached] == [4]


def test_scores_are_those_of_single_images(threshold_model, add_sample, rectangle, tmp_path, monkeypatch):
    for number, name in enumerate("abcde"):
        add_sample(name, [rectangle(1, 1, 5 + number, 5), rectangle(1, 7, 9, 12)])
    dataset = NucleusDataset()
    dataset.load_nucleus(tmp_path, "all")
    dataset.prepare()
    together = evaluate_fully(KeptPredictions(ModelPredictions(threshold_model)), dataset, progress=False)
    monkeypatch.setattr(chunks, "CHUNK_IMAGES", 1)
    single = evaluate_fully(ModelPredictions(threshold_model), dataset, progress=False)
    assert together.images.equals(single.images) and together.summary.equals(single.summary)


def test_an_evaluation_stops_at_an_image_that_cannot_be_predicted(fake_model, add_sample, rectangle, tmp_path):
    for name in "abc":
        add_sample(name, [rectangle(1, 1, 5, 5)])
    dataset = NucleusDataset()
    dataset.load_nucleus(tmp_path, "all")
    dataset.prepare()

    def refuse(_):
        raise ValueError("not for me")

    with pytest.raises(ValueError, match="not for me"):
        evaluate_fully(ModelPredictions(fake_model(refuse)), dataset, progress=False)


def test_an_images_limits_are_logged_only_where_it_is_predicted_now(fake_model, caplog):
    bright = np.full((24, 32, 3), 200, np.uint8)
    items = [Item(0, "a", "a.png", bright, done=True), Item(1, "b", "b.png", np.zeros_like(bright))]
    predict_together(limited(fake_model, 20))(items)
    assert items[0].prediction is None and items[1].prediction is not None and not caplog.records
