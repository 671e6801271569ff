"""The folders of training runs."""

import pytest

from mrcnn.runs import Run, checkpoint_template, last_checkpoint, new_run, run_of


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_last_is_the_latest_epoch_of_the_latest_run_that_has_one(tmp_path):
    touch(tmp_path / "nucleus20240101T0000" / "mask_rcnn_nucleus_0050.h5")
    touch(tmp_path / "nucleus20240102T0000" / "mask_rcnn_nucleus_0002.h5")
    expected = touch(tmp_path / "nucleus20240102T0000" / "mask_rcnn_nucleus_0010.h5")
    touch(tmp_path / "nucleus20240102T0000" / "mask_rcnn_nucleus_best.h5")
    touch(tmp_path / "nucleus20240102T0000" / ".mask_rcnn_nucleus_0011.x.h5")
    touch(tmp_path / "nucleus20240103T0000" / "events")
    touch(tmp_path / "other20240104T0000" / "mask_rcnn_other_0001.h5")
    assert last_checkpoint(tmp_path, "Nucleus") == expected


def test_a_folder_without_checkpoints_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="logs: no checkpoint nucleus"):
        last_checkpoint(tmp_path / "logs", "nucleus")


def test_a_checkpoint_tells_its_run_and_epoch(tmp_path):
    run = new_run(tmp_path, "Nucleus")
    path = checkpoint_template(run, "Nucleus").format(epoch=12)
    assert run.epoch == 0
    assert run_of(path) == Run(run.folder, 12)


@pytest.mark.parametrize(
    "path", ["mask_rcnn_coco.h5", "nucleus20240101T0000/mask_rcnn_nucleus_best.h5", "x/mask_rcnn_a_0001.h5"]
)
def test_other_files_belong_to_no_run(tmp_path, path):
    assert run_of(tmp_path / path) is None
