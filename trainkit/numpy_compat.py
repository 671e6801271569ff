"""Puts `numpy.sctypes` back, which NumPy 2.0 removed and imgaug 0.4.0 reads while it is imported.

See https://numpy.org/doc/stable/numpy_2_0_migration_guide.html. Importing this module is enough.
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
