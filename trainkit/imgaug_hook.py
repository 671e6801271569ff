"""Lets `import imgaug` work under NumPy 2 wherever it stands in a script.

NumPy 2.0 removed `numpy.sctypes`, which imgaug 0.4.0 reads while it is imported
(https://numpy.org/doc/stable/numpy_2_0_migration_guide.html). Scripts written for matterport's Mask_RCNN import imgaug
before any package of this project, so the installation puts a copy of this file beside the packages, as
`keras_nucleus_imgaug.py`, and Python imports the copy when it starts (`keras_nucleus_imgaug.pth`). Therefore nothing is
imported here but `sys`, and NumPy only when imgaug is.
"""

import sys


class _BeforeImgaug:
    """Import finder that finds nothing; a search for imgaug restores `numpy.sctypes`."""

    def find_spec(self, name, path=None, target=None):
        """Restores `numpy.sctypes` before imgaug is found by another finder."""
        if name == "imgaug":
            restore_sctypes()


def install() -> None:
    """Restores `numpy.sctypes` as soon as imgaug is imported."""
    sys.meta_path.insert(0, _BeforeImgaug())


def restore_sctypes() -> None:
    """Restores `numpy.sctypes` as NumPy 1 had it, if it is missing."""
    import numpy as np

    if not hasattr(np, "sctypes"):
        np.sctypes = {
            "int": [np.int8, np.int16, np.int32, np.int64],
            "uint": [np.uint8, np.uint16, np.uint32, np.uint64],
            "float": [np.float16, np.float32, np.float64, np.longdouble],
            "complex": [np.complex64, np.complex128, np.clongdouble],
            "others": [bool, object, bytes, str, np.void],
        }
