"""A run that is killed, interrupted or out of disk space is resumed to what an undisturbed one writes."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

import nucleus
from nucleus.datasets.provenance import ProvenanceError
from nucleus.models.classical.model import ClassicalModel
from nucleus.models.wrapper import Wrapper
from nucleus.prediction.folders import PredictionFolder
from nucleus.prediction.manifest import COMPLETE, INTERRUPTED, RUNNING, read_manifest
from nucleus.prediction.results import Results

from .detections import CLASSICAL, content, detect, require_equal

TABLES = ("images.csv", "nuclei.csv", "submission.csv")

# Functions at whose n-th call a run kills itself, and their modules.
STEPS = {
    "record": ("nucleus.prediction.results", "write_stored"),
    "move": ("nucleus.prediction.results.os", "replace"),
    "manifest": ("nucleus.prediction.manifest", "write_note"),
    "picture": ("nucleus.images.writing.cv2", "imencode"),
}
# Imports what the command needs once, and runs it for every line in a process of its own.
SCRIPT = """
import json, operator, os, signal, sys
import nucleus.images.writing
import nucleus.models.classical.model
import nucleus.prediction.detection
import nucleus.prediction.inputs
from nucleus import cli

def run(place, name, left, *arguments):
    owner = operator.attrgetter(place.removeprefix("nucleus."))(nucleus)
    do = getattr(owner, name)

    def do_or_die(*given, **options):
        nonlocal left
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return do(*given, **options)

    setattr(owner, name, do_or_die)
    os.dup2(2, 1)
    os._exit(cli.main(arguments))

for line in sys.stdin:
    process = os.fork()
    if process == 0:
        run(*json.loads(line))
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def kill(tmp_path_factory):
    """Returns a function that runs the command until it is about to do a step for the (count + 1)-th time."""
    log = tmp_path_factory.mktemp("killed") / "stderr.txt"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with open(log, "w") as errors, subprocess.Popen([sys.executable, "-c", SCRIPT], stderr=errors, **pipes) as server:

        def run(images, step, count, *options):
            arguments = [*STEPS[step], count, "detect", CLASSICAL, str(images), *options]
            print(json.dumps(arguments), file=server.stdin, flush=True)
            assert server.stdout.readline() == f"{-signal.SIGKILL}\n", log.read_text()

        yield run
        server.stdin.close()


@pytest.mark.parametrize(("step", "count"), [("move", 11), ("move", 43), ("manifest", 1), ("picture", 9)])
def test_a_killed_run_is_resumed_to_what_an_undisturbed_one_writes(images, output, undisturbed, kill, step, count):
    kill(images, step, count)
    manifest = read_manifest(output)
    assert manifest.state == RUNNING
    assert detect(images) == 1, "a folder of a killed run is refused"
    with pytest.raises(ProvenanceError, match="has not finished"):
        PredictionFolder(output)
    assert detect(images, "--resume") == 0
    require_equal(output, undisturbed)
    left = [path.name for path in output.rglob("*") if path.name.startswith(".") and path.name != ".nucleus"]
    assert not left and not (output / ".nucleus" / "new").exists()


@pytest.mark.parametrize(("step", "count"), [("move", 20), ("move", 43)])
def test_a_killed_run_is_replaced_without_a_trace(images, output, undisturbed, kill, step, count):
    assert detect(images, "--label-format=tif") == 0
    kill(images, step, count, "--overwrite")
    assert detect(images, "--overwrite") == 0
    require_equal(output, undisturbed)


def test_finished_images_are_not_predicted_again(images, output, undisturbed, kill, monkeypatch, capsys):
    kill(images, "record", 5)
    seen = []
    find = ClassicalModel._predict
    monkeypatch.setattr(ClassicalModel, "_predict", lambda self, given: seen.extend(given) or find(self, given))
    monkeypatch.setattr("nucleus.prediction.chunks.CHUNK_IMAGES", 2)
    assert detect(images, "--resume") == 0
    assert len(seen) == 4, "the chunk of two in which the run was killed, and the one after it"
    assert "(5 done before)" in capsys.readouterr().out
    require_equal(output, undisturbed)


def test_a_finished_run_takes_more_images(images, output, undisturbed):
    last = max(images.iterdir())
    data = last.read_bytes()
    last.unlink()
    assert detect(images) == 0
    last.write_bytes(data)
    assert detect(images, "--resume") == 0
    require_equal(output, undisturbed)


def test_a_mended_image_is_added(images, output, undisturbed):
    broken = sorted(images.iterdir())[1]
    data = broken.read_bytes()
    broken.write_bytes(b"")
    assert detect(images) == 1
    broken.write_bytes(data)
    assert detect(images, "--resume") == 0
    require_equal(output, undisturbed)


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        (("--set", "MIN_AREA=9"), "MIN_AREA"),
        (("--preset=watershed",), "facts|settings|model"),
        (("--pixel-size=0.5",), "pixel_size"),
        (("--label-format=tif",), "formats"),
    ],
)
def test_another_model_or_other_settings_are_not_resumed(images, output, capsys, options, cause):
    assert detect(images) == 0
    before = content(output)
    assert detect(images, "--resume", *options) == 1
    assert re.search(cause, capsys.readouterr().err)
    assert content(output) == before and read_manifest(output).state == COMPLETE


def test_another_version_and_changed_images_are_not_resumed(images, output, capsys, monkeypatch):
    assert detect(images) == 0
    before = content(output)
    monkeypatch.setattr("nucleus.prediction.manifest.__version__", "9")
    assert detect(images, "--resume") == 1
    assert "program.nucleus" in capsys.readouterr().err
    monkeypatch.undo()
    first, second, *_ = sorted(images.iterdir())
    first.write_bytes(second.read_bytes())
    assert detect(images, "--resume") == 1
    assert f"{first}: has changed" in capsys.readouterr().err
    first.unlink()
    assert detect(images, "--resume") == 1
    assert f"the image {first.stem} " in capsys.readouterr().err
    assert content(output) == before


def test_another_network_with_the_same_settings_is_not_resumed(tiny_weights, images, tmp_path, capsys):
    model = nucleus.load_model(tiny_weights["unet"])
    image = min(images.iterdir())
    nucleus.detect_images(image, tmp_path / "out", model, progress=False)
    network = model
    while isinstance(network, Wrapper):
        network = network.model
    kernel = network.network.keras_model.weights[0]
    kernel.assign_add(np.full(kernel.shape, 1e-3))
    with pytest.raises(ProvenanceError, match=r"model\.weights|weights was"):
        nucleus.detect_images(image, tmp_path / "out", model, resume=True, progress=False)


def test_damaged_records_are_no_tracebacks(images, output, undisturbed, kill, capsys):
    kill(images, "record", 5)
    stored = sorted((output / ".nucleus" / "images").iterdir())
    stored[0].write_bytes(b"PK\x03\x04 no archive")
    stored[1].write_bytes(stored[1].read_bytes()[:-40])
    assert detect(images, "--resume") == 0
    require_equal(output, undisturbed)
    for text in (
        "{",
        "[]",
        '{"facts": {}, "state": "eaten"}',
        '{"facts": {}, "files": ["../../precious"]}',
        '{"a": 1}',
    ):
        (output / "manifest.json").write_text(text)
        for option in ("--resume", "--overwrite"):
            assert detect(images, option) == 1
            assert str(output / "manifest.json") in capsys.readouterr().err


def test_an_interrupted_run_has_tables_of_what_was_done_and_is_resumed(tmp_path, fake_model, write_squares):
    for name in "abcd":
        write_squares(f"in/{name}.png", (2, 2))
    write_squares("in/c.png", (2, 2), (12, 12))

    def find(image):
        if find.interrupt and (image > 0).sum() > 48:
            raise KeyboardInterrupt
        return (image[..., 0] > 0).astype(np.int32), np.ones(1, np.float32)

    find.interrupt = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nucleus.prediction.chunks.CHUNK_IMAGES", 1)
        with pytest.raises(KeyboardInterrupt):
            nucleus.detect_images(tmp_path / "in", model=fake_model(find), progress=False)
    output = tmp_path / "in_nuclei"
    assert read_manifest(output).state == INTERRUPTED
    assert {pd.read_csv(output / table)["ImageId"].nunique() for table in TABLES} == {2}
    assert sorted(path.stem for path in (output / "labels").iterdir()) == ["a", "b"]
    find.interrupt = False
    run = nucleus.detect_images(tmp_path / "in", model=fake_model(find), resume=True, progress=False)
    assert (run.images, run.resumed, read_manifest(output).state) == (4, 2, COMPLETE)
    assert pd.read_csv(output / "images.csv")["ImageId"].tolist() == list("abcd")


def test_a_resumed_run_that_is_interrupted_has_no_tables_of_a_part(images, output, undisturbed, kill, monkeypatch):
    kill(images, "record", 6)
    monkeypatch.setattr("nucleus.prediction.chunks.CHUNK_IMAGES", 2)
    commit, count = Results.commit, []

    def interrupt(*arguments):
        if len(count) == 3:
            raise KeyboardInterrupt
        count.append(commit(*arguments))

    monkeypatch.setattr(Results, "commit", interrupt)
    assert detect(images, "--resume") == 130
    assert read_manifest(output).state == RUNNING
    assert not any((output / table).exists() for table in TABLES)
    assert len(list((output / "labels").iterdir())) == 6
    monkeypatch.setattr(Results, "commit", commit)
    assert detect(images, "--resume") == 0
    require_equal(output, undisturbed)


def test_resume_and_overwrite_exclude_each_other(tmp_path):
    with pytest.raises(ValueError, match="both"):
        Results(tmp_path, overwrite=True, resume=True)
    with pytest.raises(SystemExit, match="2"):
        detect(tmp_path, "--resume", "--overwrite")


# ---- Disks and Ctrl-C --------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_written_is_found_before_the_model_is_built(images, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("nucleus.models.loading.ChosenModel.load", lambda *_: pytest.fail("built"))
    assert detect(images, f"--output={tmp_path / 'file' / 'out'}") == 1
    assert str(tmp_path / "file" / "out") in capsys.readouterr().err


@pytest.mark.parametrize("step", ["labels", "nuclei.csv", "stored"])
def test_a_full_disk_names_the_file_that_was_meant_and_the_run_is_resumed(
    images, output, undisturbed, monkeypatch, capsys, step
):
    replace, count = os.replace, [0]

    def full(source, target):
        count[0] += step in str(target) or (step == "stored" and str(target).endswith(".npz"))
        if count[0] and count[0] % 5 == (0 if step != "nuclei.csv" else 1):
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    assert detect(images) == 1
    message = capsys.readouterr().err
    monkeypatch.undo()
    assert "No space left on device" in message and str(output) in message
    assert ".nucleus/new" not in message and "Traceback" not in message
    assert detect(images, "--resume") == 0
    require_equal(output, undisturbed)


@pytest.mark.parametrize("delay", [0.1, 0.7, 1.5])
def test_ctrl_c_is_one_line_at_any_moment(images, output, undisturbed, delay):
    """While the program is imported, models are built, images predicted and tables written."""
    script = "import sys; from nucleus.start import main; print('up', flush=True); sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", script, "detect", str(images), CLASSICAL]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"up\n"
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=60)
    assert b"Traceback" not in errors
    if b"8 images" in out:
        # It had finished before; once Python itself is ending, the system answers.
        assert process.returncode in (0, 130, -signal.SIGINT), errors
    else:
        assert process.returncode == 130, errors
        assert errors.count(b"nucleus: interrupted") == 1, errors
        assert detect(images, "--resume") == 0
    require_equal(output, undisturbed)


def test_an_interruption_that_a_library_swallows_or_renames_still_ends_with_one_line(tmp_path):
    """Ctrl-C may come in a destructor, or in code that turns every exception into its own."""
    script = """
import os, signal, sys
from nucleus import cli, start


# A shell's background jobs ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

class Left:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(9):
            pass

def swallow(_):
    left = Left()
    del left
    import time
    time.sleep(20)

def rename(_):
    try:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(9):
            pass
    except BaseException as error:
        raise ImportError("no such library") from error

cli.main = {"swallow": swallow, "rename": rename}[sys.argv[1]]
sys.exit(start.main([]))
"""
    for way in ("swallow", "rename"):
        done = subprocess.run([sys.executable, "-c", script, way], capture_output=True, check=False, timeout=60)
        assert (done.returncode, done.stderr) == (130, b"nucleus: interrupted\n"), way
