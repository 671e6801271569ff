"""Mask R-CNN with a feature pyramid, on Keras 3: TensorFlow, JAX and PyTorch."""

# Users' training scripts import imgaug themselves; after this package it finds what NumPy 2 took away.
from trainkit.imgaug_hook import restore_sctypes

restore_sctypes()
