"""The benchmarks run from end to end and print what their README promises. At tiny sizes: the figures mean nothing."""

import importlib
import json
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from nucleus.datasets.dataset import TRAIN_FOLDER, shipped_data
from nucleus.models.recipe import Recipe
from nucleus.models.registry import NETWORKS

FOLDER = Path(__file__).parents[1] / "benchmarks"
TINY = ["--preset", "small", "--size", "64", "--repeats", "1"]


@pytest.fixture
def run(monkeypatch, capsys):
    """Returns a function that runs a benchmark with arguments and returns the JSON object that it prints."""
    monkeypatch.syspath_prepend(FOLDER)

    def run_benchmark(name, arguments):
        importlib.import_module(name).main(arguments)
        return json.loads(capsys.readouterr().out)

    yield run_benchmark
    for name in ("common", "data_loading", "training_step", "detection", "large_images", "many_images", "metrics"):
        sys.modules.pop(name, None)
    sys.modules.pop("workers", None)
    sys.modules.pop("scales", None)
    sys.modules.pop("exported", None)
    for name in ("unet_network", "postprocessing", "start_up", "peers"):
        sys.modules.pop(name, None)


def check_environment(report, precision="float32"):
    assert report["backend"] in ("tensorflow", "jax", "torch")
    assert report["precision"] == precision
    assert report["versions"]["numpy"] == np.__version__
    assert report["cores"] >= 1
    assert report["processor"]
    assert report["peak_memory_mb"] > 10
    assert report["seconds_per_image"] > 0


def test_training_step_times_a_step_that_learns(run, eager):
    report = run("training_step", [*TINY, "--batch", "1"])
    check_environment(report)
    assert report["image_size"] == [64, 64]
    assert report["batch"] == report["runs"] == 1
    assert report["loss_is_finite"]
    assert report["seconds_per_image"] == report["median_seconds"] and report["first_step_seconds"] > 0


def test_detection_gives_every_image_as_many_detections_as_it_has_nuclei(run):
    report = run("detection", [*TINY, "--limit", "3"])
    check_environment(report)
    assert report["images"] == report["typical"]["runs"] == len(report["biases"]) == 3
    nuclei = [len(list((shipped_data() / TRAIN_FOLDER / name / "masks").iterdir())) for name in report["biases"]]
    # An image of 64 x 64 has few places for objects; the sharpest bias may let one more or less through.
    assert abs(report["typical"]["median_detections"] - np.median(nuclei)) <= 1
    assert report["typical"]["median_detections"] == report["instances"]["median_detections"]
    assert report["full"]["most_detections"] > report["typical"]["most_detections"]
    assert report["seconds_per_image"] == report["typical"]["median_seconds"]


def test_the_floor_counts_what_the_layers_multiply(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    common = importlib.import_module("common")
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(5, 3, strides=2, padding="same", name="first")(image)
    x = keras.layers.DepthwiseConv2D(3, padding="same", name="second")(x)
    x = keras.layers.Conv2DTranspose(4, 2, strides=2, name="third")(x)
    model = keras.Model(image, keras.layers.Dense(2, name="last")(x))
    counted = common.count_operations(model, np.zeros((2, 8, 8, 3), np.float32), {"named": "last", "others": ".*"})
    sys.modules.pop("common")
    pixels = 2 * 4 * 4
    others = 2 * pixels * (3 * 3 * 3 * 5 + 3 * 3 * 5 + 2 * 2 * 4 * 5)
    assert counted == {"named": 2 * 2 * 8 * 8 * 4 * 2, "others": others}
    assert "call" not in vars(model.get_layer("first")), "the network is left as it was"


def test_a_u_net_is_timed_beside_its_floor(run, tmp_path, eager):
    weights = tmp_path / "small.h5"
    NETWORKS["unet"].begin(Recipe("small", {"ENCODER_FILTERS": (4, 6), "DROPOUT": 0.0}, "unet"), tmp_path).save(weights)
    report = run("unet_network", ["--weights", str(weights), "--size", "64", "--batch", "1", "--repeats", "1"])
    check_environment(report)
    passes, steps = (report[part]["floor"]["gigaoperations"] for part in ("inference", "training_step"))
    assert passes["encoder"] > 0 and steps["decoder"] == pytest.approx(3 * passes["decoder"], abs=2e-3)
    assert report["inference"]["floor"]["fraction"] > 0 and report["loss_is_finite"]


def test_start_up_takes_turns_between_keras_and_the_exported_files(run, monkeypatch):
    start_up = importlib.import_module("start_up")
    calls = []

    def finish(arguments, backend):
        calls.append((arguments[:3], backend))
        return (2.0, 1.5, "{}") if backend is None else (8.0, 9.0, "{}")

    monkeypatch.setattr(start_up, "run", finish)
    report = run("start_up", ["--repeats", "2"])
    check_environment(report)
    assert len(calls) == 6 and calls[0] == (["-m", "nucleus", "detect"], "tensorflow")
    assert (report["keras"]["cpu_seconds"], report["exported"]["cpu_seconds"]) == (9.0, 1.5)
    assert report["exported"]["runs"] == 2 and report["seconds_per_image"] == 2.0


def test_post_processing_is_timed_for_a_megapixel(run):
    report = run("postprocessing", ["--sizes", "256", "128", "--repeats", "1"])
    check_environment(report)
    small, large = report["sizes"]
    assert (small["side"], large["side"]) == (128, 256)
    assert 2 < large["nuclei"] / small["nuclei"] < 8 and small["memory_mb_per_megapixel"] > 0 and report["growth"] > 0


def test_data_loading_times_every_image_of_each_way(run):
    report = run("data_loading", ["--rounds", "1"])
    check_environment(report)
    assert report["seconds_per_image"] == report["label_cache"]["median_seconds"]
    assert [report[way]["runs"] for way in ("masks_from_files", "label_cache", "in_memory")] == [6, 6, 6]


def test_large_images_are_mosaics_each_in_its_own_process(run):
    settings = ["--set", "TILE_SIZE=256", "--set", "TILE_OVERLAP=64"]
    report = run("large_images", ["--model", "classical", "--sizes", "300", "600", *settings])
    check_environment(report)
    small, large = report["mosaics"]
    assert (small["side"], small["tiles"], large["side"], large["tiles"]) == (300, 1, 600, 9)
    assert large["nuclei"] > 2 * small["nuclei"] > 0
    assert report["seconds_per_image"] == large["seconds"] > 0 and large["peak_above_model_mb"] >= 0


def test_scales_are_scored_beside_the_images_own(run):
    report = run("scales", ["--weights", "classical/watershed", "--images", "2", "--side", "128"])
    check_environment(report, precision="float64")
    assert [row["factor"] for row in report["scales"]] == [0.333, 0.5, 1, 2, 3] and report["images"] == 2
    for row in report["scales"]:
        assert row["true"] > 5 and 0 < row["as_it_is"] == row["found"] < 1, "a classical method keeps every size"


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow exports")
def test_exported_networks_take_turns_with_those_in_keras(run, monkeypatch, tmp_path):
    weights = tmp_path / "small.h5"
    NETWORKS["unet"].begin(Recipe("small", {"ENCODER_FILTERS": (4, 6), "DROPOUT": 0.0}, "unet"), tmp_path).save(weights)
    # Processes that import Keras take ten seconds each.
    taken = iter([(8.0, 9.0), (2.0, 1.5)])
    monkeypatch.setattr(importlib.import_module("exported"), "time_process", lambda file, image: next(taken))
    sizes = ["--size", "64", "--repeats", "2", "--processes", "1"]
    report = run("exported", ["--weights", str(weights), *sizes])
    check_environment(report)
    assert [report["network"][name]["runs"] for name in ("keras", "onnx")] == [2, 2]
    assert (report["times_faster"]["process"], report["times_faster"]["process_cpu"]) == (4.0, 6.0)
    assert report["seconds_per_image"] == report["network"]["onnx"]["median_seconds"]


def test_large_images_in_files_have_the_nuclei_of_those_in_memory(run, tmp_path):
    arguments = ["--model", "classical", "--sizes", "700", "--set", "TILE_SIZE=256", "--set", "TILE_OVERLAP=64"]
    (whole,) = run("large_images", arguments)["mosaics"]
    report = run("large_images", [*arguments, "--file", "--output", str(tmp_path / "a.json")])
    (mosaic,) = report["mosaics"]
    assert (mosaic["nuclei"], mosaic["tiles"]) == (whole["nuclei"], whole["tiles"]) and mosaic["nuclei"] > 50
    assert mosaic["file_mb"] > 0.1 and mosaic["write_seconds"] >= 0
    assert json.loads((tmp_path / "a.json").read_text())["mosaics"] == report["mosaics"]


def test_many_images_are_done_one_by_one_and_overlapped_alike(run):
    report = run("many_images", ["--model", "classical", "--images", "4", "--size", "128", "--repeats", "1"])
    check_environment(report)
    assert report["same_files"] and report["images"] == 4
    assert report["single"]["cpu_seconds"] > 0 and report["speedup"] > 0


def test_images_of_many_sizes_are_compared_with_as_many_of_one_size_and_area(run, monkeypatch):
    many_images = importlib.import_module("many_images")
    # Processes that import Keras take ten seconds each.
    monkeypatch.setattr(many_images, "in_new_process", lambda function, *arguments: function(*arguments))
    report = run("many_images", ["--model", "classical", "--images", "5", "--sides", "60", "90"])
    check_environment(report)
    one, many = report["one_size"], report["many_sizes"]
    assert (one["sizes"], many["sizes"]) == (1, 5) and abs(one["megapixels"] / many["megapixels"] - 1) < 0.05
    ratio = many["seconds_per_megapixel"] / one["seconds_per_megapixel"]
    assert report["times_dearer"] == pytest.approx(ratio, abs=2e-3)
    assert many["peak_memory_mb"] >= many["memory_left_mb"] > 10
    with pytest.raises(SystemExit, match="between which there are 5 sizes"):
        run("many_images", ["--images", "5", "--sides", "9", "10"])


FAKE_PEER = """
import time
from peer_loop import serve

def wait(seconds):
    def task():
        time.sleep(seconds)
        return 3
    return lambda job: task

def fail(job):
    raise OSError("no weights")

serve({"detect_float32": wait(%s), "step_float32": %s}, ("numpy",))
"""


def test_peers_take_turns_and_what_is_missing_is_said(run, monkeypatch, tmp_path):
    peers = importlib.import_module("peers")
    (tmp_path / "peer_loop.py").write_bytes((FOLDER / "peer_loop.py").read_bytes())
    (tmp_path / "peer_ours.py").write_text(FAKE_PEER % (0.01, "wait(0.01)"))
    (tmp_path / "fast.py").write_text(FAKE_PEER % (0.05, "fail"))
    (tmp_path / "ends.py").write_text("import sys; sys.exit('no such library')")
    known = {
        name: peers.Peer(f"{name}.py", (), ("detect_float32", "step_float32")) for name in ("fast", "ends", "absent")
    }
    monkeypatch.setattr(peers, "PEERS", known)
    monkeypatch.setattr(peers, "FOLDER", tmp_path)
    monkeypatch.setattr(peers, "interpreter", lambda path: path if path.name == "absent" else Path(sys.executable))
    monkeypatch.setenv("PYTHONPATH", "")
    tasks = ["--tasks", "detect_float32", "step_float32", "--repeats", "2", "--size", "64"]
    report = run("peers", [*tasks, "--environments", str(tmp_path / "none")])
    check_environment(report, precision="as each task says")
    assert report["tasks"]["detect_float32"]["fast"]["runs"] == 2 and list(report["tasks"]["step_float32"]) == ["ours"]
    assert report["ratios"]["detect_float32"]["fast"]["seconds"] > 2 and report["ratios"]["step_float32"] == {}
    assert report["missing"]["fast step_float32"] == "OSError: no weights"
    assert "no such library" in report["missing"]["ends"] and "--make-environments" in report["missing"]["absent"]


def test_workers_write_what_one_process_does_and_costs_are_told_by_area_and_nuclei(run):
    pytest.importorskip("distributed", reason="needs the extra cluster")
    sizes = ["--images", "3", "--size", "64", "--repeats", "1", "--workers", "1"]
    report = run("workers", ["--model", "classical/otsu", *sizes])
    check_environment(report)
    assert report["same_files"] and set(report["seconds"]) == {"one_process", "workers_1"}
    assert set(report["areas"]) == {"64", "128", "256"} and set(report["nuclei"]) == {"10", "100", "400"}
    assert report["start_seconds"] > 0 and report["client_seconds_per_image"]["workers_1"] > 0


def test_metrics_are_faster_than_boolean_masks(run):
    report = run("metrics", ["--size", "256", "--nuclei", "100", "--rows", "4", "--repeats", "7"])
    check_environment(report, precision="float64")
    assert report["nuclei"] == [100, 100]
    assert 0 < report["score"] < 1
    assert report["seconds_per_image"] == report["map"]["median_seconds"]
    assert report["map"]["runs"] == report["overlaps"]["runs"] == report["glas"]["runs"] == 7
    assert report["boolean_masks"]["rows"] == 4
    # About 400 at this size, also where much else runs.
    assert report["speedup"] > 20


def test_seconds_are_of_an_image_not_of_a_batch(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    summary = importlib.import_module("common").summarize([2.0, 4.0, 9.0], images=2)
    sys.modules.pop("common")
    assert summary == {"median_seconds": 2.0, "p90_seconds": 4.0, "runs": 3}
