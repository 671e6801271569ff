"""Restores `numpy.sctypes` for imgaug 0.4.0 under NumPy 2; importing this module is enough."""

from trainkit.imgaug_hook import restore_sctypes

restore_sctypes()
