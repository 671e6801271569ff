"""Optimizers by name, known without Keras."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

# Name in `keras.optimizers` -> arguments that it takes besides the learning rate and gradient clipping.
OPTIMIZERS: dict[str, tuple[str, ...]] = {"SGD": ("momentum",), "Adam": ()}


def make_optimizer(name: str, learning_rate: float, momentum: float, clip_norm: float | None) -> keras.Optimizer:
    """Builds the optimizer of a training stage.

    Args:
        name: Key of `OPTIMIZERS`.
        learning_rate: Learning rate, above 0.
        momentum: Momentum of SGD, 0 to 1; other optimizers ignore it.
        clip_norm: Norm to which the gradient of all weights together is clipped; None or 0 does not clip.

    Returns:
        A new optimizer without state.

    Raises:
        ValueError: The name is unknown.
    """
    import keras

    if name not in OPTIMIZERS:
        raise ValueError(f"The optimizer must be one of {', '.join(OPTIMIZERS)}. Received: {name!r}")
    options = {"momentum": momentum} if "momentum" in OPTIMIZERS[name] else {}
    if clip_norm:
        options["global_clipnorm"] = clip_norm
    return getattr(keras.optimizers, name)(learning_rate, **options)
