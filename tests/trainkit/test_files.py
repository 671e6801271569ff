"""An interrupted write leaves the old file and no litter."""

import stat

import pytest

from trainkit.files import atomic_path, write_text


def test_success_replaces_the_file_and_leaves_nothing_beside_it(tmp_path):
    target = tmp_path / "new" / "result.png"
    with atomic_path(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.suffix == ".png"
        assert not target.exists()
        temporary.write_bytes(b"one")
    assert target.read_bytes() == b"one"
    assert list(target.parent.iterdir()) == [target]


def test_an_error_keeps_the_old_file_and_removes_the_temporary_one(tmp_path):
    target = tmp_path / "result.csv"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_unfinished_files_are_hidden_from_a_search_by_name(tmp_path):
    with atomic_path(tmp_path / "mask_rcnn_0001.h5"):
        assert list(tmp_path.glob("mask_rcnn*.h5")) == []


def test_the_result_is_as_readable_as_an_ordinary_file(tmp_path):
    ordinary, target = tmp_path / "ordinary", tmp_path / "target"
    ordinary.write_text("")
    write_text(target, "")
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)


def test_text_is_utf8_with_its_own_line_ends(tmp_path):
    write_text(tmp_path / "a.txt", "µm²\r\nline\n")
    assert (tmp_path / "a.txt").read_bytes() == "µm²\r\nline\n".encode()
