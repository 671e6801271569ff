"""Seeds of random choices."""

from __future__ import annotations

import random

import keras
import numpy as np


def seed_weights(seed: int) -> None:
    """Seeds the random values that new layers begin with, and NumPy's and Python's generators.

    With JAX this is not `keras.utils.set_random_seed`, which imports TensorFlow wherever that is installed: 0.4 GB and
    seconds for a seed that nothing reads there. Layers of Keras draw their seeds from Python's generator.

    Args:
        seed: Seed, from 0 on.
    """
    if keras.backend.backend() != "jax":
        keras.utils.set_random_seed(seed)
        return
    random.seed(seed)
    np.random.seed(seed)
