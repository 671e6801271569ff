"""imgaug on NumPy 2.

imgaug 0.4.0 reads `numpy.sctypes` while it is imported; NumPy 2.0 removed that table of scalar types
(https://numpy.org/doc/stable/numpy_2_0_migration_guide.html). It is put back here, before the import.
Every use of imgaug in this project goes through this module:

    from trainkit.imgaug_compat import ia, iaa
"""

import numpy as np

if not hasattr(np, "sctypes"):
    np.sctypes = {
        "int": [np.int8, np.int16, np.int32, np.int64],
        "uint": [np.uint8, np.uint16, np.uint32, np.uint64],
        "float": [np.float16, np.float32, np.float64, np.longdouble],
        "complex": [np.complex64, np.complex128, np.clongdouble],
        "others": [bool, object, bytes, str, np.void],
    }

import imgaug as ia
import imgaug.augmenters as iaa

__all__ = ["ia", "iaa"]
