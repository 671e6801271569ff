"""Optimizers by name; listing them needs no Keras."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

# Name in `keras.optimizers` -> arguments that it takes besides the learning rate, gradient clipping and averaging.
OPTIMIZERS: dict[str, tuple[str, ...]] = {"SGD": ("momentum",), "Adam": (), "AdamW": ("weight_decay",)}
# Biases, and scales and shifts of normalisation, which no weight decay touches.
_UNDECAYED = ("bias", "gamma", "beta")


def make_optimizer(
    name: str,
    learning_rate: float,
    momentum: float,
    clip_norm: float | None,
    *,
    weight_decay: float = 0.0,
    average_momentum: float = 0.0,
) -> keras.Optimizer:
    """Builds the optimizer of a training stage.

    Args:
        name: Key of `OPTIMIZERS`.
        learning_rate: Learning rate, above 0.
        momentum: Momentum of SGD, 0 to 1; other optimizers ignore it.
        clip_norm: Norm to which the gradient of all weights together is clipped; None or 0 does not clip.
        weight_decay: Share of the kernels that a step of AdamW takes off them, over the learning rate (Loshchilov and
            Hutter, "Decoupled weight decay regularization", 2019, algorithm 2); other optimizers ignore it.
        average_momentum: Momentum of a moving average of the weights, see `trainkit.averaging`; 0 for none.

    Returns:
        A new optimizer without state.

    Raises:
        ValueError: The name is unknown.
    """
    import keras

    from trainkit.devices import clip_jointly

    if name not in OPTIMIZERS:
        raise ValueError(f"The optimizer must be one of {', '.join(OPTIMIZERS)}. Received: {name!r}")
    given = {"momentum": momentum, "weight_decay": weight_decay}
    options = {argument: given[argument] for argument in OPTIMIZERS[name]}
    if clip_norm:
        options["global_clipnorm"] = clip_norm
    if average_momentum:
        options |= {"use_ema": True, "ema_momentum": average_momentum}
    optimizer = clip_jointly(getattr(keras.optimizers, name))(learning_rate, **options)
    if "weight_decay" in options:
        optimizer.exclude_from_weight_decay(var_names=list(_UNDECAYED))
    return optimizer
