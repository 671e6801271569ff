"""The command line: what it parses, calls, writes and prints. The network is replaced by a threshold."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import cv2
import h5py
import numpy as np
import pandas as pd
import pytest

from nucleus import cli
from nucleus.datasets.dataset import NucleusDataset
from nucleus.models.mask_rcnn import MaskRCNNModel, NucleusConfig
from nucleus.models.recipe import Recipe
from nucleus.models.weights import find_recipe
from trainkit.stages import lay_out_stages


@pytest.fixture
def model(monkeypatch, threshold_model):
    """Every weights file loads as the threshold; notes what was loaded with which configuration."""
    loaded = SimpleNamespace(calls=[])

    def load(weights, recipe, config, model_dir):
        loaded.calls.append((weights, config))
        return threshold_model

    monkeypatch.setattr(MaskRCNNModel, "load", load)
    return loaded


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "model.h5"
    path.touch()
    Recipe("lineage").save(tmp_path)
    return path


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


def test_detect_writes_everything_for_files_and_folders(tmp_path, model, weights, write_squares, capsys):
    one = write_squares("one.png", (2, 2), (10, 20))
    write_squares("more/one.png", (5, 5))
    write_squares("more/dark.png")
    output = tmp_path / "out"
    assert run("detect", one, tmp_path / "more", "--weights", weights, "--output", output) == 0

    names = ["dark", "one", "one-2"]
    for folder in ("labels", "overlays"):
        assert sorted(path.stem for path in (output / folder).glob("*.png")) == names
    found = {name: cv2.imread(str(output / "labels" / f"{name}.png"), cv2.IMREAD_UNCHANGED) for name in names}
    assert {name: labels.max() for name, labels in found.items()} == {"dark": 0, "one": 2, "one-2": 1}
    assert found["one"].dtype == np.uint16 and (found["one"][2:6, 2:6] == 1).all()

    submission = pd.read_csv(output / "submission.csv", keep_default_na=False)
    assert submission["ImageId"].value_counts().to_dict() == {"one": 2, "dark": 1, "one-2": 1}
    assert submission.set_index("ImageId").loc["dark", "EncodedPixels"] == ""
    nuclei = pd.read_csv(output / "nuclei.csv")
    assert nuclei["area"].tolist() == [16, 16, 16] and nuclei["mean_intensity"].tolist() == [200] * 3
    summary = capsys.readouterr().out.strip()
    assert summary.startswith("3 images, 3 nuclei, ") and summary.endswith(f"s: {output}")


def test_detect_takes_a_subset_without_masks(tmp_path, model, weights, add_sample):
    add_sample("a", None, folder="stage1_test")
    output = tmp_path / "out"
    assert run("detect", "--dataset", tmp_path, "--weights", weights, "--output", output, "--label-format=tif") == 0
    assert [path.name for path in (output / "labels").iterdir()] == ["a.tif"]


def test_evaluate_prints_and_saves_the_scores(tmp_path, model, weights, add_sample, rectangle, capsys):
    add_sample("a", [rectangle(1, 1, 5, 5)])
    output = tmp_path / "out"
    status = run("evaluate", "--dataset", tmp_path, "--subset=train", "--weights", weights, "--output", output)
    assert status == 0
    assert sorted(path.name for path in output.iterdir()) == ["scores.csv", "summary.json"]
    assert "mAP" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("names", "known", "hint"), [("ab", "", True), ("a", "", False), ("ab", "a", False), ("ab", "ab", False)]
)
def test_evaluate_says_where_modalities_come_from_if_it_knows_none(
    tmp_path, model, weights, add_sample, rectangle, capsys, names, known, hint
):
    for name in names:
        add_sample(name, [rectangle(1, 1, 5, 5)])
    if known:
        rows = "".join(f"{name},fluorescence\n" for name in known)
        (tmp_path / "classes.csv").write_text(f"ImageId,modality\n{rows}")
    arguments = ("--dataset", tmp_path, "--subset=train", "--weights", weights, "--output", tmp_path / "out")
    assert run("evaluate", *arguments) == 0
    assert (f"`nucleus modality --dataset={tmp_path}`" in capsys.readouterr().out) == hint


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), "flips"),
        (("--tta=none",), "none"),
        (("--set", "CLAHE=True", "--tta", "flips-rotations"), "flips-rotations"),
        (("--tta=none", "--set", "TEST_TIME_AUGMENTATION=flips-rotations"), "flips-rotations"),
    ],
)
def test_test_time_augmentation_is_the_weights_own_unless_asked_for(
    tmp_path, model, weights, write_squares, options, expected
):
    Recipe("lineage", {"TEST_TIME_AUGMENTATION": "flips", "TEST_TIME_SCALES": [0.5, 1]}).save(tmp_path)
    assert run("detect", write_squares("one.png"), "--weights", weights, "--output", tmp_path / "o", *options) == 0
    ((_, config),) = model.calls
    views, scales = config.TEST_TIME_AUGMENTATION, config.TEST_TIME_SCALES
    assert views == expected and scales == (0.5, 1)


def test_views_that_are_none(weights, write_squares, capsys):
    with pytest.raises(SystemExit, match="2"):
        run("evaluate", "--weights", weights, "--tta=spirals")
    assert "expected one of none, flips, flips-rotations, received 'spirals'" in capsys.readouterr().err


def test_settings_come_from_recipe_preset_and_option_in_this_order(tmp_path, model, weights, write_squares):
    Recipe("resnet101-two-stage", {"CLAHE": "True", "IMAGES_PER_GPU": "4"}).save(tmp_path)
    image = write_squares("one.png", (2, 2))
    common = ("detect", image, "--weights", weights, "--output", tmp_path / "out")
    assert run(*common, "--set", "DETECTION_NMS_THRESHOLD=0.4", "--set", "OVERLAP_RULE=score") == 0
    assert run(*common, "--preset=lineage", "--overwrite") == 0
    (_, own), (_, lineage) = model.calls
    assert (own.BACKBONE, own.CLAHE, own.BATCH_SIZE) == ("resnet101", True, 1)
    assert (own.DETECTION_NMS_THRESHOLD, own.OVERLAP_RULE) == (0.4, "score")
    assert (lineage.BACKBONE, lineage.CLAHE) == ("resnet50", False)


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        ((), "COMMAND"),
        (("paint",), "paint"),
        (("train",), "--weights"),
        (("train", "--weights=none", "--preset=nothing"), "nothing"),
        (("train", "--weights=none", "--model=segnet"), "segnet"),
        (("train", "--weights=none", "--set", "CLAHE"), "NAME=VALUE"),
        (("train", "--weights=none", "--epochs=0"), "--epochs"),
        (("detect", "--weights=coco"), "has not learned nuclei"),
        (("download", "everything"), "everything"),
    ],
)
def test_wrong_usage_ends_with_status_2(arguments, cause, capsys):
    with pytest.raises(SystemExit) as end:
        run(*arguments)
    assert end.value.code == 2
    assert cause in capsys.readouterr().err


def test_ctrl_c_is_no_traceback(monkeypatch, weights, write_squares, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(MaskRCNNModel, "load", interrupt)
    assert run("detect", write_squares("one.png"), "--weights", weights) == 130
    assert "interrupted" in capsys.readouterr().err


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.h5"):
        run("evaluate", "--debug", "--weights", tmp_path / "gone.h5")


def test_download_fetches_into_the_weights_folder(tmp_path, monkeypatch, capsys):
    for module in ("mrcnn.weights", "trainkit.imagenet"):
        monkeypatch.setattr(f"{module}.download", lambda url, path, **_: path)
        monkeypatch.setattr(f"{module}.default_weights_dir", lambda: tmp_path)
    assert run("download") == 0
    assert run("download", "imagenet", "xception", "dataset") == 0
    printed = capsys.readouterr().out
    assert [line.startswith(str(tmp_path)) for line in printed.splitlines()[:4]] == [True] * 4
    for expected in ("coco", "resnet50", "resnet101", "xception", "BBBC038", "stage1_train"):
        assert expected in printed


def test_packed_weights_bring_their_settings(tmp_path, capsys):
    run_folder = tmp_path / "nucleus20240101T0000"
    run_folder.mkdir()
    Recipe("small", {"CLAHE": False}).save(run_folder)
    checkpoint = run_folder / "mask_rcnn_nucleus_0003.h5"
    with h5py.File(checkpoint, "w") as file:
        file.attrs["layer_names"] = [b"conv1"]
        file.create_group("conv1").attrs["weight_names"] = [b"conv1/kernel:0"]
        file["conv1"].create_dataset("conv1/kernel:0", data=np.ones((3, 3, 3, 8), np.float32))
    target = tmp_path / "shared" / "mine.h5"
    assert run("pack", "--weights", "last", "--logs", tmp_path, "--output", target) == 0
    assert "mine.h5" in capsys.readouterr().out
    with h5py.File(target) as file:
        assert file["conv1/conv1/kernel:0"].dtype == np.float16
    assert find_recipe(target) == Recipe("small", {"CLAHE": False})


class FakeMaskRCNN:
    """The library's network in training; notes the weights that it loads and what it trains."""

    made = []
    hold_run = staticmethod(nullcontext)

    def __init__(self, mode, config, model_dir):
        assert mode == "training"
        self.mode, self.config, self.epoch = mode, config, 0
        self.log_dir = f"{model_dir}/nucleus20240101T0000"
        self.best_path = Path(self.log_dir) / "mask_rcnn_nucleus_best.h5"
        self.loaded = []
        FakeMaskRCNN.made.append(self)

    def load_weights(self, path, by_name=False, exclude=None):
        self.loaded.append((path, by_name, exclude))

    def get_imagenet_weights(self):
        return f"{self.config.BACKBONE}.h5"

    def train_stages(self, train_dataset, val_dataset, epochs, augmentation, callbacks):
        laid = lay_out_stages(self.config.STAGES, self.config.LEARNING_RATE, epochs)
        self.trained = [(stage.layers, stage.until) for stage in laid]
        self.datasets, self.epoch = (train_dataset, val_dataset), laid[-1].until


@pytest.fixture
def train(tmp_path, monkeypatch, add_sample, rectangle):
    """Returns a function that runs `train` on a tiny dataset and returns the model it made."""
    add_sample("a", [rectangle(1, 1, 5, 5)])
    add_sample("b", [rectangle(1, 1, 5, 5)], folder="extra")
    monkeypatch.setattr("mrcnn.model.MaskRCNN", FakeMaskRCNN)
    monkeypatch.setattr("mrcnn.weights.download_coco", lambda: "coco.h5")
    monkeypatch.setattr(FakeMaskRCNN, "made", [])

    def start(*arguments):
        common = ("train", "--dataset", tmp_path, "--val-subset=extra", "--logs", tmp_path / "logs")
        assert run(*common, *arguments) == 0
        return FakeMaskRCNN.made[-1]

    return start


def test_training_from_coco_leaves_out_what_depends_on_the_classes(train):
    model = train("--weights=coco", "--set", "CLAHE=True", "--steps=3")
    ((path, by_name, exclude),) = model.loaded
    assert (path, by_name) == ("coco.h5", True)
    assert set(exclude) == {"mrcnn_class_logits", "mrcnn_bbox_fc", "mrcnn_bbox", "mrcnn_mask"}
    assert model.trained == [("heads", 20), ("all", 40)]
    assert model.config.STEPS_PER_EPOCH == 3
    assert all(dataset.preprocessing is not None for dataset in model.datasets)
    assert [dataset.image_info[0]["id"] for dataset in model.datasets] == ["a", "b"]


def test_images_stay_in_memory_as_long_as_asked_for(train, monkeypatch):
    reads = []
    monkeypatch.setattr(NucleusDataset, "_read_plain", lambda self, index: reads.append(index) or np.zeros((8, 8, 3)))
    for megabytes, expected in ((256, 1), (0, 3)):
        reads.clear()
        for dataset in train("--weights=none", "--set", f"IMAGE_CACHE_MB={megabytes}").datasets:
            for _ in range(3):
                dataset.load_image(0)
        assert len(reads) == 2 * expected


def test_training_from_imagenet_takes_the_backbones_file(train):
    assert train("--weights=imagenet", "--epochs=2").loaded == [("resnet50.h5", True, None)]


def test_training_from_nothing_trains_everything_and_is_resumed_so(train, tmp_path):
    model = train("--weights=none", "--set", "STAGES=[('heads', 1), ('4+', 2)]")
    # Stages that were asked for are kept; only what was not asked for is chosen for random weights.
    assert model.trained == [("heads", 1), ("4+", 3)]
    model = train("--weights=none", "--preset=resnet101-two-stage", "--epochs=101")
    assert model.loaded == [] and model.config.TRAIN_BN is None
    assert model.trained == [("all", 100), ("all", 101)]

    checkpoint = tmp_path / "logs" / "nucleus20240101T0000" / "mask_rcnn_nucleus_0101.h5"
    checkpoint.touch()
    resumed = train("--weights=last")
    assert resumed.loaded == [(checkpoint, False, None)]
    assert resumed.config.TRAIN_BN is None and resumed.config.BACKBONE == "resnet101"
    assert resumed.trained == [("all", 100), ("all", 150)]


@pytest.mark.parametrize(
    ("arguments", "causes"),
    [
        (("--model=unet", "--weights=coco"), ("unet cannot begin with --weights=coco", "imagenet")),
        (("--model=unet", "--preset=lineage", "--weights=none"), ("unet has no preset 'lineage'", "xception")),
        (("--model=mask_rcnn", "--preset=fcn8s", "--weights=none"), ("mask_rcnn has no preset 'fcn8s'", "lineage")),
        (("--preset=plain-bn", "--weights=imagenet"), ("ENCODER_WEIGHTS 'imagenet'", "plain")),
        (("--model=unet", "--weights=none", "--set", "OVERLAP_RULE=score"), ("OVERLAP_RULE",)),
    ],
)
def test_what_a_model_does_not_have_is_refused(train, tmp_path, capsys, arguments, causes):
    with pytest.raises(AssertionError):
        train(*arguments)
    message = capsys.readouterr().err
    assert all(cause in message for cause in causes), message
    assert not (tmp_path / "logs").exists()


def test_the_last_run_is_taken_up_whatever_its_model(train, tmp_path, capsys):
    for name, model in (("nucleus20240101T0000", "mask_rcnn"), ("nucleus20240102T0000", "unet")):
        (tmp_path / "logs" / name).mkdir(parents=True)
        (tmp_path / "logs" / name / f"{model}_nucleus_0001.h5").touch()
        Recipe({"mask_rcnn": "lineage", "unet": "small"}[model], model=model).save(tmp_path / "logs" / name)
    assert train("--weights=last", "--model=mask_rcnn").loaded[0][0].name == "mask_rcnn_nucleus_0001.h5"
    with pytest.raises(AssertionError):
        train("--weights=last")
    assert "unet_nucleus_0001.h5" in capsys.readouterr().err, "an empty file is no checkpoint"


def test_the_lineages_defaults_apply_without_options(train):
    assert train("--weights=none").config.IMAGE_RESIZE_MODE == NucleusConfig.IMAGE_RESIZE_MODE
