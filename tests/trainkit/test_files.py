"""An interrupted write leaves the old file and no litter."""

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
from contextlib import contextmanager

import h5py
import numpy as np
import pytest
import tifffile

from trainkit.files import atomic_path, remove_leftovers, require_writable, write_bytes, write_text
from trainkit.locks import LockedError, exclusive


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


@contextmanager
def full_disk():
    """A disk on which no file can grow beyond 1,000 bytes: the system answers as on a full one, with another number."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def write_hdf5(path):
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        file["weights"] = np.random.default_rng(0).normal(size=100_000)


def write_tiff(path):
    with atomic_path(path) as temporary:
        tifffile.imwrite(temporary, np.random.default_rng(0).integers(0, 255, (99, 99), np.uint8))


@pytest.mark.parametrize("write", [lambda path: write_bytes(path, bytes(9999)), write_hdf5, write_tiff])
def test_a_full_disk_names_the_file_that_was_meant(tmp_path, write):
    target = tmp_path / "result.h5"
    target.write_text("old")
    with full_disk(), pytest.raises(OSError) as caught:
        write(target)
    assert str(target) in str(caught.value) and f".{target.stem}." not in str(caught.value)
    assert caught.value.errno == (None if write is write_tiff else errno.EFBIG)
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


def test_a_folder_that_cannot_be_written_is_found_without_touching_it(tmp_path):
    (tmp_path / "file").write_text("")
    require_writable(tmp_path / "new" / "deep")
    with pytest.raises(NotADirectoryError, match=r"file/results"):
        require_writable(tmp_path / "file" / "results")
    with full_disk(), pytest.raises(OSError) as caught:
        require_writable(tmp_path / "new")
    assert caught.value.filename == str(tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    with atomic_path(tmp_path / "net_0001.h5") as temporary:
        left = temporary.with_name(temporary.name.replace("0001", "0002"))
        left.write_text("half")
    for other in (".net.h5", "net_0003.h5", ".other.abc.h5"):
        (tmp_path / other).write_text("")
    remove_leftovers(tmp_path, "net_*.h5")
    assert sorted(os.listdir(tmp_path)) == [".net.h5", ".other.abc.h5", "net_0001.h5", "net_0003.h5"]


def test_a_lock_ends_with_the_process_that_holds_it(tmp_path):
    lock = tmp_path / "lock"
    script = "import sys, time, pathlib; from trainkit.locks import exclusive\n"
    script += "with exclusive(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script, str(lock)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LockedError, match=f"process {holder.pid} on .+since 20"), exclusive(lock):
            pass
        holder.kill()
        holder.wait()
    with exclusive(lock):
        pass


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
