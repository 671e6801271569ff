"""The label image of a `_seg.npy` is read, and nothing in the file is run."""

import io
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from nucleus.images.reading import ImageFileError
from nucleus.images.seg_npy import read_seg_masks

LABELS = np.zeros((12, 16), np.uint16)
LABELS[2:5, 2:5], LABELS[7:10, 8:12] = 1, 7


def content(masks=LABELS, **more):
    """Cellpose's dictionary of an image."""
    return {
        "outlines": LABELS.copy(),
        "masks": masks,
        "chan_choose": [0, 0],
        "ismanual": np.zeros(2, bool),
        "filename": "a.tif",
        "flows": [np.zeros((1, 12, 16, 3), np.uint8), [], np.zeros((3, 12, 16), np.float32)],
        "diameter": np.nan,
        "est_diam": np.float64(17.5),
        "colors": np.zeros((2, 3), np.uint8),
        **more,
    }


def write(path, pickled):
    """A file of NumPy with any pickle in it."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
    path.write_bytes(file.getvalue() + pickled)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int32, np.int64, ">u2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_masks_of_every_type_are_read(tmp_path, dtype, order):
    np.save(tmp_path / "a_seg.npy", content(np.asarray(LABELS.astype(dtype), order=order)))
    labels = read_seg_masks(tmp_path / "a_seg.npy")
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, LABELS)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_of_every_protocol_are_read(tmp_path, protocol):
    array = np.empty((), object)
    array[()] = content(filename=Path("a.tif"))
    path = write(tmp_path / "a_seg.npy", pickle.dumps(array, protocol))
    if protocol == 2:  # Bytes are made by a call of codecs.encode there.
        with pytest.raises(ImageFileError, match=r"_codecs\.encode"):
            read_seg_masks(path)
    else:
        np.testing.assert_array_equal(read_seg_masks(path), LABELS)


class Call:
    """An object whose unpickling calls a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        (lambda path: Call(os.system, f"touch {path}"), "system"),
        (lambda path: Call(open, str(path), "w"), "open"),
        (lambda path: Call(eval, f"open({str(path)!r}, 'w')"), "eval"),
        (lambda path: Call(getattr, "", "join"), "getattr"),
        (lambda path: Call(np.fromfile, str(path)), "fromfile"),
        (lambda path: Call(np.load, str(path), None, True), "load"),
    ],
)
@pytest.mark.parametrize("key", ["masks", "filename"])
def test_a_file_that_calls_a_function_is_refused_and_calls_none(tmp_path, harm, named, key):
    mark = tmp_path / "harmed"
    np.save(tmp_path / "a_seg.npy", content(**{key: harm(mark)}))
    with pytest.raises(ImageFileError, match=rf"a_seg\.npy: .*{named}.*Save its masks as PNG or TIFF"):
        read_seg_masks(tmp_path / "a_seg.npy")
    assert not mark.exists()


@pytest.mark.parametrize(
    "pickled",
    [
        b"cos\nsystem\n(S'touch harmed'\ntR.",
        b"(S'touch harmed'\nios\nsystem\n.",
        b"(cos\nsystem\nS'touch harmed'\no.",
        b"Pexternal\n.",
        b"\x82\x01.",
        # Room for 2^31 objects.
        b"\x80\x03Nr\xff\xff\xff\x7f.",
        # A string that is said to have 2^40 characters.
        b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"a.",
        # NumPy's own reconstruction of an object with a state that does not fit.
        b"\x80\x03cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01)cnumpy\ndtype\n"
        b"X\x01\x00\x00\x00OK\x00K\x01\x87R\x89C\x08AAAAAAAAtb.",
        # Changes of the stand-ins themselves.
        b"\x80\x03cnumpy\nndarray\n}X\x01\x00\x00\x00aK\x01sb.",
        b"",
        b"\x80\x04N.",
    ],
)
def test_crafted_pickles_are_refused(tmp_path, monkeypatch, pickled):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImageFileError, match=r"a_seg\.npy: cannot be used"):
        read_seg_masks(write(tmp_path / "a_seg.npy", pickled))
    assert not Path("harmed").exists()


def test_mutated_files_are_read_or_refused_by_name(tmp_path):
    path, rng = tmp_path / "a_seg.npy", np.random.default_rng(0)
    np.save(path, content())
    data = path.read_bytes()
    for _ in range(300):
        changed = bytearray(data)
        for at in rng.integers(0, len(data), 3):
            changed[at] = rng.integers(0, 256)
        path.write_bytes(changed[: len(data) if rng.random() < 0.7 else rng.integers(0, len(data))])
        try:
            labels = read_seg_masks(path)
        except ImageFileError as error:
            assert str(path) in str(error)
        else:
            assert labels.dtype == np.int32 and labels.ndim == 2


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (np.zeros((3, 12, 16), np.uint16), "no single plane"),
        (np.zeros((12, 16), np.float32), "no whole numbers"),
        (np.full((12, 16), -1, np.int16), "a label lies outside"),
        (np.full((12, 16), 2**40), "a label lies outside"),
        ([1, 2], "expected an array"),
    ],
)
def test_masks_that_are_no_label_image_are_named(tmp_path, masks, message):
    np.save(tmp_path / "a_seg.npy", content(masks))
    with pytest.raises(ImageFileError, match=message):
        read_seg_masks(tmp_path / "a_seg.npy")


def test_other_arrays_are_refused(tmp_path):
    np.save(tmp_path / "a_seg.npy", LABELS)
    with pytest.raises(ImageFileError, match="expected one object"):
        read_seg_masks(tmp_path / "a_seg.npy")
    (tmp_path / "b_seg.npy").write_bytes(b"no array")
    with pytest.raises(ImageFileError, match=r"b_seg\.npy"):
        read_seg_masks(tmp_path / "b_seg.npy")
    with pytest.raises(ImageFileError, match=r"gone_seg\.npy: cannot be read"):
        read_seg_masks(tmp_path / "gone_seg.npy")
