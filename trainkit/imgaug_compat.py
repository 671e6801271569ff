"""imgaug on NumPy 2. Every use of imgaug in this project goes through this module:

from trainkit.imgaug_compat import ia, iaa
"""

import trainkit.numpy_compat  # noqa: F401, I001 - has to come before imgaug.

import imgaug as ia
import imgaug.augmenters as iaa

__all__ = ["ia", "iaa"]
