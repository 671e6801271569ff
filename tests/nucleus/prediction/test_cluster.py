"""A run on workers leaves what a run in one process leaves, also when a worker or the client is killed meanwhile."""

import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile

import nucleus
from nucleus import cli
from nucleus.models.classical.model import ClassicalModel
from nucleus.models.portable import PortableModel, forget_models
from nucleus.models.wrapper import Wrapper
from nucleus.prediction import cluster as cluster_module
from nucleus.prediction.cluster import Cluster, ClusterError
from nucleus.prediction.detection import detect_images
from nucleus.prediction.manifest import COMPLETE, RUNNING, read_manifest

distributed = pytest.importorskip("distributed", reason="needs the extra cluster")
cloudpickle = pytest.importorskip("cloudpickle")
OTSU = "--preset=otsu"


@pytest.fixture(scope="module")
def plate(tmp_path_factory):
    """A folder of 40 small images of several sizes, one of 16 bits and one that is cut off."""
    folder = tmp_path_factory.mktemp("cluster") / "plate"
    folder.mkdir()
    paths = sorted(nucleus.shipped_data().glob("stage1_train/*/images/*.png"), key=os.path.getsize)
    for number in range(38):
        image = cv2.imread(str(paths[number % 5]))[: 160 + number, :200]
        cv2.imwrite(str(folder / f"{number:02}.png"), image)
    tifffile.imwrite(folder / "38.tif", image[..., 1].astype(np.uint16) * 20)
    (folder / "05.png").write_bytes((folder / "05.png").read_bytes()[:-40])
    return folder


@pytest.fixture(scope="module")
def scheduler():
    """The address of a scheduler with two workers, which are processes that are started again when they die."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0", memory_limit=0
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture(scope="module")
def one_process(plate):
    """The results of one process, and what it said."""
    folder = plate.with_name("one")
    return detect_images(plate, folder, "classical/otsu", progress=False)


def require_equal(folder, expected):
    """The same files, and the same manifest."""

    def content(root):
        paths = (path for path in root.rglob("*") if path.is_file() and ".nucleus" not in path.parts)
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}

    found, wanted = content(folder), content(expected)
    assert found.keys() == wanted.keys()
    assert [name for name in found if found[name] != wanted[name]] == []
    assert read_manifest(folder).state == COMPLETE


class Dying(Wrapper):
    """A model that kills its process over the second chunk that it is shown, once.

    Args:
        model: The model.
        mark: File that is there when a process was killed.
    """

    def __init__(self, model, mark):
        super().__init__(model)
        self.mark, self.seen = mark, 0

    def _predict(self, images):
        self.seen += 1
        with open(self.mark.with_suffix(".log"), "a") as log:
            log.write(f"{os.getpid()}\n")
        if self.seen == 2 and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.model._predict(images)


def test_results_are_those_of_one_process(plate, one_process, scheduler, tmp_path, capsys):
    folder = tmp_path / "several"
    done = detect_images(plate, folder, "classical/otsu", progress=False, scheduler=scheduler)
    assert (done.images, done.nuclei) == (one_process.images, one_process.nuclei) and done.images == 38
    assert done.failures == one_process.failures and "05.png" in done.failures[0]
    require_equal(folder, one_process.output)
    # Every format, from the command line, which names the images by relative paths.
    formats = "--write=labels,overlays,csv,xlsx,geojson,roi,coco,rle"
    arguments = ["detect", OTSU, formats, "--label-format=tif", str(plate / "00.png"), str(plate / "38.tif")]
    assert cli.main([*arguments, f"--output={tmp_path / 'a'}"]) == 0
    assert cli.main([*arguments, f"--output={tmp_path / 'b'}", f"--scheduler={scheduler}"]) == 0
    for kind in ("rois", "measurements.xlsx"):
        assert (tmp_path / "a" / kind).exists() and (tmp_path / "b" / kind).exists()
    for name in ("nuclei.csv", "coco_results.json", "geojson/00.geojson", "labels/38.tif"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_worker_that_is_killed_loses_what_it_had_in_flight_alone(plate, scheduler, tmp_path):
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    mark, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    undisturbed.touch()
    bare = nucleus.load_model("classical/otsu")
    detect_images(plate, tmp_path / "one", Dying(bare, undisturbed), progress=False)
    done = detect_images(plate, tmp_path / "several", Dying(bare, mark), progress=False, scheduler=scheduler)
    assert mark.exists() and done.images == 38
    require_equal(tmp_path / "several", tmp_path / "one")
    chunks, again = (len(path.with_suffix(".log").read_text().split()) for path in (undisturbed, mark))
    assert chunks < again <= chunks + 3, "the chunk over which it was killed, and those that it had beside it"


# Kills itself when it is about to record the n-th image.
SCRIPT = """
import os, signal, sys
import nucleus.prediction.results as results
from nucleus import cli

left, write = [9], results.write_stored

def write_or_die(*given):
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    return write(*given)

results.write_stored = write_or_die
cli.main(sys.argv[1:])
"""


def test_a_run_whose_client_is_killed_ends_its_workers_and_is_resumed(plate, one_process, scheduler, tmp_path):
    psutil = pytest.importorskip("psutil")
    output = tmp_path / "results"
    command = ["detect", OTSU, str(plate), f"--output={output}"]
    client = subprocess.Popen([sys.executable, "-c", SCRIPT, *command, "--workers=1"], stderr=subprocess.PIPE)
    children: set = set()
    while client.poll() is None:
        try:
            children |= set(psutil.Process(client.pid).children(recursive=True))
        except psutil.NoSuchProcess:
            break
        time.sleep(0.1)
    assert client.wait() == -signal.SIGKILL, client.stderr.read().decode()
    assert read_manifest(output).state == RUNNING and len(list((output / ".nucleus" / "images").iterdir())) == 9
    assert children and not psutil.wait_procs(children, timeout=30)[1], "workers end with their client"
    assert cli.main([*command, "--resume", f"--scheduler={scheduler}"]) == 1, "one image is cut off"
    require_equal(output, one_process.output)


def test_an_image_that_ends_every_worker_fails_and_its_neighbours_do_not(plate, tmp_path, monkeypatch, one_process):
    """Without processes: tasks with one of the images end as if their workers had died."""

    def submit(self, function, *arguments):
        return function, cloudpickle.loads(cloudpickle.dumps(arguments))

    def result(self, future):
        function, arguments = future
        if any(item.id == "03" for item in arguments[1]):
            raise distributed.KilledWorker("run_chunk", None, 3)
        return function(*arguments)

    monkeypatch.setattr(Cluster, "_window", 3)
    monkeypatch.setattr(Cluster, "_submit", submit)
    monkeypatch.setattr(Cluster, "_result", result)
    monkeypatch.setattr(Cluster, "__enter__", lambda self: self)
    monkeypatch.setattr(Cluster, "__exit__", lambda *_: None)
    done = detect_images(plate, tmp_path / "found", "classical/otsu", progress=False, workers=1)
    assert done.images == one_process.images - 1
    assert any("03.png: every worker that was given it died" in failure for failure in done.failures)
    left = {path.stem for path in (tmp_path / "found" / "labels").iterdir()}
    assert {path.stem for path in (one_process.output / "labels").iterdir()} - left == {"03"}


def test_tiles_of_a_large_image_are_looked_at_by_workers(plate, scheduler, tmp_path):
    image = np.concatenate([cv2.imread(str(plate / f"{number}.png"))[:160] for number in (10, 11, 12)])
    tifffile.imwrite(tmp_path / "slide.tif", np.tile(image, (1, 2, 1)), tile=(64, 64), photometric="rgb")
    settings = {"LAZY_SIZE": 200, "TILE_SIZE": 128, "TILE_OVERLAP": 32}
    options = {"settings": settings, "progress": False}
    detect_images(tmp_path / "slide.tif", tmp_path / "one", "classical/otsu", **options)
    detect_images(tmp_path / "slide.tif", tmp_path / "several", "classical/otsu", **options, scheduler=scheduler)
    assert (tmp_path / "several" / "nuclei_slide.csv").stat().st_size > 1000
    require_equal(tmp_path / "several", tmp_path / "one")


def test_a_diameter_in_micrometres_sets_level_and_scale_on_workers_too(plate, scheduler, tmp_path):
    image = np.concatenate([cv2.imread(str(plate / f"{number}.png"))[:160] for number in (10, 11, 12)])
    image = np.tile(image, (2, 4, 1))
    with tifffile.TiffWriter(tmp_path / "slide.tif") as file:
        file.write(image, tile=(64, 64), photometric="rgb", subifds=1)
        file.write(image[::2, ::2], tile=(64, 64), photometric="rgb", subfiletype=1)
    images = [tmp_path / "slide.tif", plate / "10.png", plate / "38.tif"]
    tiles = {"LAZY_SIZE": 300, "TILE_SIZE": 128, "TILE_OVERLAP": 32}
    options = {"settings": {**tiles, "KNOWN_DIAMETERS": (8, 16, 32), "DIAMETER_UM": 8}, "pixel_size": 0.2}
    one = detect_images(images, tmp_path / "one", "classical/otsu", **options, progress=False)
    detect_images(images, tmp_path / "several", "classical/otsu", **options, progress=False, scheduler=scheduler)
    rows = pd.read_csv(one.output / "images.csv").set_index("ImageId")
    assert not one.failures and rows["scale"].to_dict() == {"slide": 0.8, "10": 0.4, "38": 0.4}
    assert rows["level"]["slide"] == 1 and rows["nuclei"].min() > 0
    require_equal(tmp_path / "several", tmp_path / "one")


def test_labels_are_measured_by_workers(plate, one_process, scheduler, tmp_path):
    arguments = ["measure", str(one_process.output), str(plate)]
    assert cli.main([*arguments, f"--output={tmp_path / 'one'}"]) == 1
    assert cli.main([*arguments, f"--output={tmp_path / 'several'}", f"--scheduler={scheduler}"]) == 1
    require_equal(tmp_path / "several", tmp_path / "one")


def test_scores_are_those_of_one_process(plate, scheduler, tmp_path, capsys):
    for number in (10, 11):
        image = cv2.imread(str(plate / f"{number}.png"))[:96, :96]
        _, labels = cv2.connectedComponents((image[..., 0] > 60).astype(np.uint8))
        for folder, pixels in (("images", image), ("labels", labels.astype(np.uint16))):
            (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / "data" / folder / f"{number}.png"), pixels)
    arguments = ["evaluate", OTSU, f"--dataset={tmp_path / 'data'}", "--subset=all"]
    assert cli.main([*arguments, f"--output={tmp_path / 'one'}"]) == 0
    assert cli.main([*arguments, f"--output={tmp_path / 'several'}", f"--scheduler={scheduler}"]) == 0
    for name in ("scores.csv", "summary.json"):
        assert (tmp_path / "several" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    dataset = nucleus.NucleusDataset()
    dataset.load_nucleus(tmp_path / "data", "all")
    dataset.prepare()
    model = nucleus.load_model("classical/otsu")
    expected = nucleus.evaluate(model, dataset, progress=False)
    assert nucleus.evaluate(model, dataset, progress=False, scheduler=scheduler).equals(expected)
    assert cli.main([*arguments, f"--predictions={tmp_path}", f"--scheduler={scheduler}"]) == 1
    assert "for a model that runs" in capsys.readouterr().err


def test_local_workers_share_the_cores_and_leave_ctrl_c_to_the_client(monkeypatch):
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
        monkeypatch.delenv(name, raising=False)
    import dask.system

    monkeypatch.setattr(dask.system, "CPU_COUNT", 6)
    with Cluster(workers=1) as cluster:

        def look():
            names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
            return [os.environ[name] for name in names], signal.getsignal(signal.SIGINT) == signal.SIG_IGN

        assert list(cluster._client.run(look).values()) == [(["6", "6"], True)]
        assert list(cluster._client.nthreads().values()) == [1]


def test_a_worker_does_not_predict_by_another_model_than_the_clients(tmp_path):
    model = nucleus.load_model("classical/otsu")
    packed = PortableModel(model).pack()
    state = packed.__getstate__()
    there = PortableModel.__new__(PortableModel)
    vars(there).update(state)
    assert isinstance(there.get().model, ClassicalModel) and there.get() is not model
    forget_models()
    changed = PortableModel.__new__(PortableModel)
    vars(changed).update({**state, "_digest": "another"})
    with pytest.raises(ValueError, match="other weights, settings or versions"):
        changed.get()


def test_wrong_clusters_are_refused_by_name(monkeypatch, plate, tmp_path, capsys):
    with pytest.raises(ClusterError, match="both or none"):
        Cluster(2, "tcp://127.0.0.1:1")
    with pytest.raises(SystemExit):
        cli.main(["detect", OTSU, str(plate), "--workers=2", "--scheduler=tcp://127.0.0.1:1"])
    monkeypatch.setattr(cluster_module, "_PATIENCE", 0.5)
    output = tmp_path / "results"
    assert cli.main(["detect", OTSU, str(plate), f"--output={output}", "--scheduler=tcp://127.0.0.1:1"]) == 1
    assert "tcp://127.0.0.1:1: no worker of Dask" in capsys.readouterr().err and not output.exists()
    monkeypatch.setattr(cluster_module.importlib.util, "find_spec", lambda name: None)
    assert cli.main(["detect", "--preset=otsu", str(plate), f"--output={output}", "--workers=2"]) == 1
    assert "keras-nucleus[cluster]" in capsys.readouterr().err
