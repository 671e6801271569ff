"""The checkpoint that training resumes from, among runs of several names and kinds of model."""

import subprocess
import sys
import time

import pytest

from trainkit.runs import Run, RunFiles, new_run

UNET, MASK_RCNN = RunFiles("unet"), RunFiles("mask_rcnn")


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_the_name_has_to_match_exactly(tmp_path):
    expected = touch(tmp_path / "nucleus20240101T0000" / "unet_nucleus_0001.h5")
    small = touch(tmp_path / "nucleus_small20240102T0000" / "unet_nucleus_small_0007.h5")
    numbered = touch(tmp_path / "nucleus220240103T0000" / "unet_nucleus2_0003.h5")
    touch(tmp_path / "nucleus20240104T0000" / "unet_nucleus_small_0009.h5")
    touch(tmp_path / "my_nucleus20240105T0000" / "unet_my_nucleus_0009.h5")
    touch(tmp_path / "nucleus20240106T0000_copy" / "unet_nucleus_0009.h5")
    assert UNET.last_checkpoint(tmp_path, "nucleus") == expected
    assert UNET.last_checkpoint(tmp_path, "Nucleus_Small") == small
    assert UNET.last_checkpoint(tmp_path, "nucleus2") == numbered


def test_a_dot_in_a_name_is_a_dot(tmp_path):
    touch(tmp_path / "v1x20240101T0000" / "unet_v1x_0001.h5")
    with pytest.raises(FileNotFoundError, match=r"v\.x<date>"):
        UNET.last_checkpoint(tmp_path, "v.x")


@pytest.mark.parametrize("name", ["run.1", "my run", "été"])
def test_any_name_can_be_resumed(tmp_path, name):
    run = new_run(tmp_path, name)
    path = touch(run.folder / UNET.checkpoint_template(run, name).rsplit("/", 1)[1].format(epoch=3))
    assert UNET.last_checkpoint(tmp_path, name) == path
    assert UNET.run_of(path) == Run(path.parent, 3)


def test_kinds_of_models_are_kept_apart(tmp_path):
    unet = touch(tmp_path / "nucleus20240101T0000" / "unet_nucleus_0002.h5")
    mask_rcnn = touch(tmp_path / "nucleus20240102T0000" / "mask_rcnn_nucleus_0010.h5")
    assert UNET.last_checkpoint(tmp_path, "nucleus") == unet
    assert MASK_RCNN.last_checkpoint(tmp_path, "nucleus") == mask_rcnn
    assert UNET.run_of(unet) == Run(unet.parent, 2)
    assert UNET.run_of(mask_rcnn) is None and MASK_RCNN.run_of(unet) is None


def test_epochs_are_numbers_and_late_runs_win(tmp_path):
    touch(tmp_path / "nucleus20240101T0000" / "unet_nucleus_9999.h5")
    touch(tmp_path / "nucleus20240102T0000" / "unet_nucleus_9999.h5")
    expected = touch(tmp_path / "nucleus20240102T0000" / "unet_nucleus_10000.h5")
    touch(tmp_path / "nucleus20240102T0000" / "unet_nucleus_best.h5")
    touch(tmp_path / "nucleus20240103T0000" / "training.csv")
    assert UNET.last_checkpoint(tmp_path, "nucleus") == expected


def test_a_folder_without_runs_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"logs: no checkpoint nucleus<date>/unet_nucleus_<epoch>\.h5"):
        UNET.last_checkpoint(tmp_path / "logs", "nucleus")


def test_runs_that_begin_together_get_folders_of_their_own(tmp_path):
    first = new_run(tmp_path, "Nucleus")
    second = new_run(tmp_path, "Nucleus")
    assert second.folder != first.folder and second.folder.name > first.folder.name
    for run in (first, second):
        checkpoint = UNET.checkpoint_template(run, "Nucleus").format(epoch=12)
        assert UNET.run_of(checkpoint) == Run(run.folder, 12)
    assert UNET.best_path(first.folder, "Nucleus") == first.folder / "unet_nucleus_best.h5"


def test_processes_that_begin_together_get_folders_of_their_own(tmp_path):
    code = (
        "import sys, time\n"
        "from trainkit.runs import new_run\n"
        "time.sleep(max(0, float(sys.argv[2]) - time.time()))\n"
        "print(*(new_run(sys.argv[1], 'nucleus').folder for _ in range(5)), sep='\\n')"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "logs"), str(time.time() + 0.7)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    folders = [line for process in processes for line in process.communicate()[0].split()]
    assert len(folders) == len(set(folders)) == 20
    assert all(process.returncode == 0 for process in processes)


def test_a_folder_of_runs_that_cannot_be_made_is_an_error(tmp_path):
    touch(tmp_path / "logs")
    with pytest.raises(OSError, match="logs"):
        new_run(tmp_path / "logs", "nucleus")
