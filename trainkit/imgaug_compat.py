"""imgaug under NumPy 2. Modules of this project write `from trainkit.imgaug_compat import ia, iaa`."""

import trainkit.numpy_compat  # noqa: F401, I001 - has to come before imgaug.

import imgaug as ia
import imgaug.augmenters as iaa

__all__ = ["ia", "iaa"]
