"""Training on several devices of one machine, each with a copy of the network and an equal part of every batch.

The copies learn what one network learns from the whole batch, within rounding. JAX computes with the whole batch,
divided by `keras.distribution`, so that nothing else has to know. TensorFlow (`tf.distribute`) computes each part by
itself: sums over the batch go through `joint_sum`, losses through `share_of_loss`, random numbers through `draw_rows`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from typing import Any

import keras

_TITLES = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}


class DevicesError(ValueError):
    """GPU_COUNT asks for devices that the backend or the machine does not have."""


def building_on(count: int) -> AbstractContextManager:
    """Returns a context in which networks and optimizers are built for training on several devices.

    Args:
        count: Number of devices: GPUs or TPUs where there are any, else CPUs. 1 leaves everything to Keras.

    Raises:
        DevicesError: The backend cannot train on several devices, or there are not as many.
    """
    if count == 1:
        return nullcontext()
    return _distribution(keras.backend.backend(), count).scope()


@contextmanager
def fitting_on(count: int, model: keras.Model) -> Iterator[None]:
    """Trains, inside the block, a model that was built on several devices.

    Where batch normalisation measures the batch, it measures the whole one.

    Args:
        count: Number of devices, as for `building_on`.
        model: Model built and compiled inside `building_on`.
    """
    if count == 1:
        yield
    elif keras.backend.backend() == "jax":
        with building_on(count):
            yield
    else:
        # Keras refuses layers that are made so on other backends, so it is no part of the saved network.
        norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
        for norm in norms:
            norm.synchronized = True
        try:
            yield
        finally:
            for norm in norms:
                norm.synchronized = False


def replica_count() -> int:
    """Returns the number of copies of the network that compute a part of the batch each; 1 on JAX and PyTorch."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def joint_sum(values: Any) -> Any:
    """Adds up values that were computed from this copy's part of the batch, over all copies.

    Args:
        values: Tensor, or list of tensors, of any shapes.

    Returns:
        The sums, the same on every copy; gradients flow back to all of them.
    """
    context = _replica_context()
    if context is None:
        return values
    import tensorflow as tf

    return context.all_reduce(tf.distribute.ReduceOp.SUM, values)


def share_of_loss(loss: Any) -> Any:
    """Divides the loss of the whole batch among the copies, whose gradients are added up."""
    count = replica_count()
    return loss / count if count > 1 else loss


def draw_rows(draw: Callable[[Any], Any], batch: Any) -> Any:
    """Draws random numbers for every image of the whole batch, and returns the rows of this copy's images.

    Args:
        draw: Function from a number of images B to random numbers `[B, ...]`, the same on every copy.
        batch: Number of images in this copy's part.

    Returns:
        `[batch, ...]`.
    """
    context = _replica_context()
    if context is None:
        return draw(batch)
    start = context.replica_id_in_sync_group * batch
    return draw(batch * context.num_replicas_in_sync)[start : start + batch]


def clip_jointly(optimizer: type[keras.Optimizer]) -> type[keras.Optimizer]:
    """Returns a class of optimizers that clip the gradient of the whole batch, where Keras would clip each part's.

    Args:
        optimizer: Class of Keras optimizers.
    """
    if replica_count() == 1:
        return optimizer

    class JointlyClipped(optimizer):
        def _clip_gradients(self, grads):
            if _replica_context() is None or not (self.clipnorm or self.global_clipnorm or self.clipvalue):
                return super()._clip_gradients(grads)
            # Keras adds up what the copies return.
            return [share_of_loss(grad) for grad in super()._clip_gradients(joint_sum(list(grads)))]

    JointlyClipped.__name__ = JointlyClipped.__qualname__ = optimizer.__name__
    return JointlyClipped


def _replica_context() -> Any:
    """Returns TensorFlow's context of this copy; None where there is one network or the code is outside of copies."""
    if replica_count() == 1:
        return None
    import tensorflow as tf

    return tf.distribute.get_replica_context()


@lru_cache
def _distribution(backend: str, count: int) -> Any:
    """Returns TensorFlow's strategy or Keras's distribution over the first devices of the best kind."""
    if backend not in ("tensorflow", "jax"):
        raise DevicesError(
            f"GPU_COUNT={count}: Keras trains on several devices with the backends TensorFlow and JAX only "
            f"(KERAS_BACKEND=tensorflow or jax). Received: {_TITLES.get(backend, backend)}. Set GPU_COUNT to 1."
        )
    if backend == "jax":
        devices = keras.distribution.list_devices()
        return keras.distribution.DataParallel(devices=_first(devices, count, backend))
    import tensorflow as tf

    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy(_first([device.name for device in found], count, backend))


def _first(devices: list[str], count: int, backend: str) -> list[str]:
    if len(devices) < count:
        raise DevicesError(
            f"GPU_COUNT={count}: {_TITLES[backend]} has {len(devices)} device{'s' * (len(devices) != 1)} here "
            f"({', '.join(devices)}). Set GPU_COUNT to that, and the images of each device to what it can hold."
        )
    return devices[:count]
