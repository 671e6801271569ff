"""imgaug under NumPy 2. Modules of this project write `from trainkit.imgaug_compat import ia, iaa`."""

from trainkit.imgaug_hook import restore_sctypes

restore_sctypes()

import imgaug as ia  # noqa: E402
import imgaug.augmenters as iaa  # noqa: E402

__all__ = ["ia", "iaa"]
