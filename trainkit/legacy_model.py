"""Keras model that saves and loads weights in the legacy HDF5 layout, as in Keras 2."""

from __future__ import annotations

import os
from typing import Any

import keras

from trainkit.hdf5 import load_weights, save_weights
from trainkit.hdf5_files import WeightsFileError, open_for_reading
from trainkit.reading import reading

# Ends of names of files in Keras 3's own layouts.
_KERAS_3 = (".weights.h5", ".weights.json")


@keras.saving.register_keras_serializable("trainkit")
class LegacyModel(keras.Model):
    """Functional model for scripts that call `model.save_weights("x.h5")`, which Keras 3 refuses."""

    def save_weights(self, filepath: str | os.PathLike, overwrite: bool = True, **options: Any) -> None:
        """Writes the weights, atomically in the legacy layout unless the name ends with `.weights.h5`.

        Args:
            filepath: File to write.
            overwrite: True to replace an existing file.
            options: Arguments of `keras.Model.save_weights`, for Keras 3's own layout.

        Raises:
            FileExistsError: The file exists and `overwrite` is off.
        """
        if str(filepath).endswith(_KERAS_3):
            super().save_weights(filepath, overwrite=overwrite, **options)
            return
        if not overwrite and os.path.exists(filepath):
            raise FileExistsError(f"{filepath}: is there already, and overwrite=False.")
        save_weights(self, filepath)

    def load_weights(self, filepath: str | os.PathLike, by_name: bool = False, **options: Any) -> None:
        """Reads weights, in the legacy layout unless the name ends with `.weights.h5`.

        Args:
            filepath: File to read.
            by_name: True to let layers that the file lacks keep their weights; legacy layout only.
            options: Arguments of `keras.Model.load_weights`, for Keras 3's own layout.

        Raises:
            WeightsFileError: The file cannot be read or belongs to another network; in the legacy layout nothing is
                changed then.
        """
        if str(filepath).endswith(_KERAS_3):
            # Keras opens the file itself, and trusts what it refers to.
            is_hdf5 = str(filepath).endswith(".h5")
            with open_for_reading(filepath) if is_hdf5 else reading(filepath, error=WeightsFileError):
                super().load_weights(filepath, **options)
        else:
            load_weights(self, filepath, by_name=by_name)


# Keras's HDF5 files of whole models name the class of the model without its package.
keras.saving.get_custom_objects()[LegacyModel.__name__] = LegacyModel
