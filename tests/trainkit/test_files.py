"""An interrupted write leaves the old file and no litter."""

import errno
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


@pytest.mark.parametrize(
    "problem",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("Can't decrement id ref count (unable to write, errno = 28, error message = 'No space')"),
    ],
    ids=["system", "hdf5"],
)
def test_an_error_of_writing_names_the_file_meant(tmp_path, problem):
    target = tmp_path / "a.h5"
    with pytest.raises(OSError) as error, atomic_path(target):
        raise problem
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(target))
    assert error.value.__cause__ is problem
    with pytest.raises(OSError, match=r"a\.h5") as error, atomic_path(target) as temporary:
        raise PermissionError(errno.EACCES, "Permission denied", str(temporary))
    assert isinstance(error.value, PermissionError) and temporary.name not in str(error.value)


def test_an_error_about_another_file_stays_as_it_is(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone") as error, atomic_path(tmp_path / "a.h5"):
        (tmp_path / "gone").read_bytes()
    assert error.value.filename == str(tmp_path / "gone")
    with pytest.raises(RuntimeError, match=r"^no writing$"), atomic_path(tmp_path / "a.h5"):
        raise RuntimeError("no writing")
