"""Fine-tuning: images held out, scores before and after, and a file that every command takes."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

import nucleus
from nucleus import cli
from nucleus.datasets.folds import find_folds
from nucleus.datasets.layouts.base import DatasetError
from nucleus.datasets.source import ImageSource
from nucleus.evaluation.evaluation import evaluate_fully
from nucleus.models import unet_tuning
from nucleus.models.registry import NETWORKS, make_config
from nucleus.models.weights import find_recipe
from nucleus.training import finetuning
from nucleus.training.finetuning import finetune
from trainkit.stages import lay_out_stages


@pytest.fixture
def own_images(tmp_path):
    """Eight images of bright squares with label images, as a user annotates them."""
    rng = np.random.default_rng(0)
    for folder in ("images", "labels"):
        (tmp_path / "mine" / folder).mkdir(parents=True)
    for number in range(8):
        image = rng.integers(0, 40, (64, 64, 3), np.uint8)
        labels = np.zeros((64, 64), np.uint16)
        for label, (y, x) in enumerate(rng.integers(0, 4, (3, 2)) * 16 + 2, start=1):
            image[y : y + 12, x : x + 12] = 220
            labels[y : y + 12, x : x + 12] = label
        cv2.imwrite(str(tmp_path / "mine" / "images" / f"{number}.png"), image)
        cv2.imwrite(str(tmp_path / "mine" / "labels" / f"{number}.png"), labels)
    return tmp_path / "mine"


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_fine_tuned_file_is_scored_on_images_that_it_never_saw_and_is_taken_by_every_command(
    tmp_path, own_images, tiny_weights, kind, capsys, monkeypatch, eager
):
    tuned_on, search = set(), unet_tuning.search_postprocessing

    def note(predict, config, images, *rest):
        tuned_on.update(info["id"] for info in images.image_info)
        return search(predict, config, images, *rest)

    monkeypatch.setattr(unet_tuning, "search_postprocessing", note)
    output = tmp_path / "out"
    tuned = finetune(own_images, tiny_weights[kind], output, steps=2, epochs=1, seed=5)
    assert len(tuned.held_out) == 2 and len(tuned.learned) == 6 and not set(tuned.held_out) & set(tuned.learned)
    assert sorted(tuned.before.images["ImageId"]) == sorted(tuned.after.images["ImageId"]) == list(tuned.held_out)
    assert tuned_on == (set(tuned.learned) if kind == "unet" else set()), "no setting is chosen by held-out images"
    assert tuned.report.is_file() and (output / "scores" / "after" / "summary.json").is_file()
    assert f"On {len(tuned.held_out)} held-out images" in str(tuned) and "before" in str(tuned)

    (run,) = (output / "training").iterdir()
    assert {"recipe.json", "folds.json", "training.csv"} <= {path.name for path in run.iterdir()}
    assert tuned.path == output / "mine.h5"
    assert find_recipe(tuned.path).model == kind
    assert find_folds(tuned.path).split(1)[1] == set(tuned.held_out)
    image = nucleus.read_image(own_images / "images" / "0.png")
    from_file, returned = (model.predict(image)[0].labels for model in (nucleus.load_model(tuned.path), tuned.model))
    np.testing.assert_array_equal(from_file, returned)
    capsys.readouterr()
    options = (f"--dataset={own_images}", f"--weights={tuned.path}", f"--output={tmp_path / 'e'}")
    assert cli.main(["evaluate", *options]) == 0
    assert "2 images (fold 1 of 4) held out of the training" in capsys.readouterr().out
    with pytest.raises(ValueError, match="already exists"):
        finetune(own_images, tiny_weights[kind], output)


def test_one_seed_divides_the_images_one_way_and_another_another(tmp_path, own_images, monkeypatch):
    divisions = []

    class StoppedError(Exception):
        pass

    def note(weights, output, division, *_):
        divisions.append(division.split(1)[1])
        raise StoppedError

    monkeypatch.setattr("nucleus.training.finetuning._train", lambda *arguments: note(*arguments[1:]))
    monkeypatch.setattr("nucleus.training.finetuning.evaluate_fully", lambda *_: None)
    monkeypatch.setattr("nucleus.training.finetuning.load_model", lambda *_: None)
    for seed in (0, 0, 2):
        with pytest.raises(StoppedError):
            finetune(own_images, "shipped", tmp_path / "out", seed=seed)
    assert divisions[0] == divisions[1] != divisions[2]


def test_the_diameters_that_a_model_knows_are_widened_by_those_of_the_images(own_images):
    """Squares of 12 pixels a side have the area of discs of 13.5; the weights know nuclei of 30 to 60 pixels."""
    least, typical, largest = finetuning._widened((30.0, 40.0, 60.0), ImageSource(own_images).load("all"))
    assert least == typical == pytest.approx(13.5, abs=0.1) and largest == 60


def test_a_single_image_is_too_few(tmp_path, own_images):
    for path in sorted(own_images.rglob("*.png")):
        if path.stem != "0":
            path.unlink()
    with pytest.raises(DatasetError, match="two images or more"):
        finetune(own_images, "shipped", tmp_path / "out", subset="all")


@pytest.mark.parametrize(("kind", "preset"), [(kind, preset) for kind in NETWORKS for preset in NETWORKS[kind].presets])
def test_fine_tuning_takes_smaller_steps_than_training_from_nothing_and_chooses_no_epoch(kind, preset):
    settings = NETWORKS[kind].fine_tuning_settings(make_config("training", preset, model=kind))
    config = make_config("training", preset, settings, kind)
    assert config.EVALUATE_EVERY == 0
    rates = [stage.learning_rate for stage in lay_out_stages(config.STAGES, config.LEARNING_RATE)]
    assert max(rates) <= 0.0005, "Adam's steps at 0.0008 undid what a Mask R-CNN had learned"


def test_a_file_without_a_recipe_is_refused_before_images_are_read(tmp_path):
    weights = tmp_path / "bare.h5"
    weights.touch()
    with pytest.raises(ValueError, match="no recipe"):
        finetune(tmp_path, weights, tmp_path / "out")


def test_a_model_that_became_worse_is_reported(tmp_path, own_images, tiny_weights, caplog, monkeypatch, eager):
    def score(predictions, dataset):
        evaluation = evaluate_fully(predictions, dataset, progress=False)
        return replace(evaluation, summary=evaluation.summary.assign(mAP=0.9 if predictions.name == "before" else 0.4))

    monkeypatch.setattr(finetuning, "evaluate_fully", score)
    finetune(own_images, tiny_weights["unet"], tmp_path / "out", steps=1, epochs=1)
    assert "worse on the held-out images than the one it began with (mAP 0.400, before 0.900)" in caplog.text
